"""Figures of models that draw by rule, so that every face on the page is known beforehand."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from standins import BrokenStyles, PlainDisks, StyledDisks

from omokage.errors import UserError
from omokage.explore import noise
from omokage.explore.faces import Faces
from omokage.explore.history import Stage
from omokage.explore.inputs import of_numbers
from omokage.exploring import mix, truncate
from omokage.pages import figures
from omokage.pages.sheet import PAPER, Sheet
from omokage.sampling import gathered, latents, sample, to_pixels
from omokage.settings import Settings


def patch(picture, box, size):
    """What a figure shows in ``box`` (x, y), without its rounded corners."""
    (x, y), (height, width) = box, size
    cut = max(1, min(size) // 24) + 1
    return picture[y + cut : y + height - cut, x + cut : x + width - cut].astype(int)


def expected(images, size):
    """Faces as a figure enlarges them, without corners."""
    height, width = size
    cut = max(1, min(size) // 24) + 1
    large = [
        Image.fromarray(face).resize((width, height), Image.Resampling.LANCZOS) for face in to_pixels(images)
    ]
    return [np.asarray(face)[cut:-cut, cut:-cut].astype(int) for face in large]


@pytest.fixture
def boxes(monkeypatch):
    """Where each face was placed: (x, y), (height, width)."""
    placed = []
    draw = Sheet.face

    def listen(self, pixels, x, y, size):
        placed.append(((self.x + round(x), self.y + round(y)), size))
        draw(self, pixels, x, y, size)

    monkeypatch.setattr(Sheet, "face", listen)
    return placed


@pytest.fixture
def words(monkeypatch):
    """What was written, where the letters are those of a line."""
    said = []
    draw, draw_all = Sheet.text, Sheet.headings

    def listen(self, text, *args, **kwargs):
        said.append(text)
        draw(self, text, *args, **kwargs)

    def listen_to_all(self, texts, *args, **kwargs):
        said.extend(texts)
        draw_all(self, texts, *args, **kwargs)

    monkeypatch.setattr(Sheet, "text", listen)
    monkeypatch.setattr(Sheet, "headings", listen_to_all)
    return said


def pixels(path):
    return np.asarray(Image.open(path))


def framed(picture):
    """Whether a margin of paper runs all around."""
    edges = (picture[:16], picture[-16:], picture[:, :16], picture[:, -16:])
    return all((edge == PAPER).all() for edge in edges)


def apart(boxes):
    """Whether no face covers another."""
    return all(
        ax + aw <= bx or bx + bw <= ax or ay + ah <= by or by + bh <= ay
        for i, ((ax, ay), (ah, aw)) in enumerate(boxes)
        for (bx, by), (bh, bw) in boxes[i + 1 :]
    )


def drawn(model, seeds, settings=Settings()):
    pixels, finite = gathered(sample(model, seeds, settings))
    return Faces(pixels, finite=finite)


@pytest.mark.parametrize("resolution", [(64, 64), (96, 64)])
def test_uncurated_shows_every_seed_in_its_size(tmp_path, boxes, resolution):
    model, seeds = PlainDisks(resolution), range(7, 16)
    assert figures.uncurated_counts(1, [0, 1, 1, 2]) == [1, 2, 2, 4]
    out = figures.uncurated(
        model.about,
        drawn(model, seeds),
        tmp_path / "u.png",
        seeds=seeds,
        settings=Settings(),
        rows=1,
        halvings=[0, 1, 1, 2],
    )
    picture = pixels(out)
    assert framed(picture)
    assert apart(boxes)
    assert len(boxes) == 1 + 2 + 2 + 4
    heights = [size[0] for _, size in boxes]
    assert heights[0] >= 256
    for big, small in ((0, 1), (1, 5)):
        assert heights[small] < heights[big] / 2 < 1.1 * heights[small] + 8
    bottoms = {y + boxes[i][1][0] for i, ((_, y), _) in enumerate(boxes) if i in (0, 2, 4, 8)}
    assert len(bottoms) == 1  # columns end on one line
    images = model.decode(latents(seeds, (3,)))
    for i, (box, size) in enumerate(boxes):
        assert np.abs(patch(picture, box, size) - expected(images[i : i + 1], size)[0]).max() == 0
    assert Image.open(out).text["seeds"] == "7-15"


def test_mixing_shows_a_row_for_each_of_a_and_a_column_for_each_of_b(tmp_path, boxes, words):
    model, settings = StyledDisks(), Settings(psi=0.8)
    of_a, of_b = (of_numbers(seeds, model, settings) for seeds in ([1, 2, 3, 4, 5, 6], [11, 12]))
    out = mix(model, of_a, of_b, tmp_path / "m.png", settings=settings).path
    picture = pixels(out)
    assert framed(picture)
    assert apart(boxes)
    a, b = (0.8 * latents(seeds, (3,)) for seeds in ([1, 2, 3, 4, 5, 6], [11, 12]))
    z = {"coarse": 0, "middle": 4, "fine": 8}
    rows = ["coarse", "coarse", "coarse", "middle", "middle", "fine"]
    faces = [model.decode(b[column : column + 1]) for column in range(2)]
    for row, kind in enumerate(rows):
        faces.append(model.decode(a[row : row + 1]))
        for column in range(2):
            w = a[row].expand(1, 10, 3).clone()
            first = z[kind]
            w[:, first : {"coarse": 4, "middle": 8, "fine": 10}[kind]] = b[column]
            faces.append(model.synthesis(w))
    assert len(boxes) == len(faces) == 20
    for (box, size), face in zip(boxes, faces, strict=True):
        assert np.abs(patch(picture, box, size) - expected(face, size)[0]).max() <= 1
    xs = sorted({box[0] for box, _ in boxes})
    assert len(xs) == 3  # A, and a column for each of B
    assert {"Source A", "Source B", "Mixing styles"} <= set(words)
    text = Image.open(out).text
    assert (text["seeds"], text["psi"]) == ("1-6,11-12", "0.8")


PSIS = [1.2, 1, 0.7, 0.5, 0.25, 0, -0.25, -0.5, -1]


def test_truncation_has_a_column_for_every_psi(tmp_path, boxes, words):
    model = StyledDisks()
    out = truncate(model, of_numbers([3, 9], model, Settings()), tmp_path / "t.png", psis=PSIS).path
    picture = pixels(out)
    assert framed(picture)
    assert [word for word in words if word.startswith("psi")] == [f"psi {psi:g}" for psi in PSIS]
    z = latents([3, 9], (3,))
    faces = [model.decode(z[row : row + 1], Settings(psi=psi)) for row in range(2) for psi in PSIS]
    for (box, size), face in zip(boxes, faces, strict=True):
        assert np.abs(patch(picture, box, size) - expected(face, size)[0]).max() <= 1
    assert Image.open(out).text["psi"] == "1.2,1,0.7,0.5,0.25,0,-0.25,-0.5,-1"


def test_noise_detail_shows_the_face_four_noises_near_and_where_they_differ(
    tmp_path, boxes, words, monkeypatch
):
    monkeypatch.setattr(noise, "NOISES", 24)
    model = StyledDisks()

    def written(name):
        details = noise.noise_detail(model, [2], Settings())
        return figures.noise_detail(
            model.about, details, tmp_path / name, seeds=[2], settings=Settings(), noise_seed=0
        )

    picture = pixels(written("n.png"))
    assert framed(picture)
    assert apart(boxes)
    assert len(boxes) == 6
    near = [patch(picture, *box) for box in boxes[1:5]]
    assert all(np.abs(one - other).max() > 5 for one, other in pairwise(near))
    deviation = patch(picture, *boxes[5])
    half = deviation.shape[1] // 2
    assert deviation[:, : half - 24].mean() > 60
    assert deviation[:, half + 24 :].max() <= 2
    assert f"Deviation over {figures.NOISES} noises" in words
    assert Image.open(tmp_path / "n.png").text["noise seed"] == "0"
    assert (pixels(written("again.png")) == picture).all()  # noise comes from its seed


def test_noise_components_take_noise_from_the_layers_they_say(tmp_path, boxes, words):
    model = StyledDisks()
    found = noise.noise_components(model, [2], Settings())
    out = figures.noise_components(
        model.about, found, tmp_path / "c.png", seeds=[2], settings=Settings(psi=1.0)
    )
    picture = pixels(out)
    assert framed(picture)
    assert apart(boxes)
    assert {"Noise in all layers", "No noise"} <= set(words)
    w = model.mapping(latents([2], (3,)))
    kinds = [(10, 0), (0, 0), (0, 8), (8, 0)]  # constant before the first number, from the second on
    for (box, size), (before, after) in zip(boxes[::2], kinds, strict=True):
        kept = ["constant" if i < before or (after and i >= after) else "none" for i in range(10)]
        shown, meant = patch(picture, box, size), expected(model.synthesis(w, kept), size)[0]
        assert (np.abs(shown - meant).max(2) > 1).mean() < 0.1  # but for the frame of what is near


@pytest.mark.parametrize(("rows", "halvings"), [(0, [0]), (1, [9]), (1, []), (2, [0, -1])])
def test_impossible_sizes_are_refused_in_one_line(rows, halvings):
    with pytest.raises(UserError, match="at least one row, and sizes from 0") as caught:
        figures.uncurated_counts(rows, halvings)
    assert "\n" not in str(caught.value)


def stages(model, seeds, brightness):
    """Moments whose faces are as bright as they say."""

    def at(level):
        return lambda: Faces(np.full((len(seeds), *model.resolution, 3), level, np.uint8))

    return [Stage(images, at(level)) for images, level in brightness.items()]


def test_progression_has_a_row_a_moment_and_a_column_a_seed(tmp_path, boxes, words):
    model = PlainDisks((4, 4))
    moments = {1000: 10, 25_600: 90, 1_920_000: 250}
    out, lost = figures.progression(
        model.about,
        stages(model, [5, 70], moments),
        model.resolution,
        tmp_path / "p.png",
        seeds=[5, 70],
        settings=Settings(),
    )
    assert lost == 0
    assert Image.open(out).text["stages"] == "1000,25600,1920000"
    assert [word for word in words if word[0].isdigit()] == ["1k", "25.6k", "1.92M"]
    picture = pixels(out)
    assert framed(picture)
    assert apart(boxes)
    assert len(boxes) == 6
    for i, (box, size) in enumerate(boxes):
        assert (patch(picture, box, size) == list(moments.values())[i // 2]).all()


def every_figure(model, seeds):
    """Each figure of some seeds as a call with the file to write; the rows of mixing are five."""
    settings, about = Settings(), model.about
    rest = {"seeds": seeds, "settings": settings}

    def moments():
        return [Stage(images, lambda: drawn(model, seeds)) for images in (1, 2)]

    def mixing_(out):
        return mix(model, *(of_numbers(some, model, settings) for some in (seeds, seeds[:1])), out).path

    def truncation_(out):
        return truncate(model, of_numbers(seeds, model, settings), out, psis=[1, 0.5]).path

    def detail(out):
        return figures.noise_detail(about, noise.noise_detail(model, seeds, settings), out, **rest)

    def components(out):
        return figures.noise_components(about, noise.noise_components(model, seeds, settings), out, **rest)

    def uncurated(out):
        return figures.uncurated(about, drawn(model, seeds), out, rows=len(seeds), halvings=[0], **rest)

    def progression(out):
        return figures.progression(about, moments(), model.resolution, out, **rest)[0]

    return {
        "uncurated": uncurated,
        "mixing": mixing_,
        "truncation": truncation_,
        "noise_detail": detail,
        "noise_components": components,
        "progression": progression,
    }


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        ("uncurated", "4"),
        ("mixing", "2 faces"),  # its own, and its row, which keeps its coarse styles
        ("truncation", "1 faces"),  # at psi 1 alone its style is that of the seed
        ("noise_detail", "9 faces"),
        ("noise_components", "4 faces"),
        ("progression", "2 faces"),
    ],
)
def test_faces_that_are_not_finite_are_told_in_the_text(tmp_path, monkeypatch, figure, said):
    monkeypatch.setattr(noise, "NOISES", 8)
    monkeypatch.setattr(figures, "FIGURE_SIZE", 16)  # a small page is drawn sooner
    out = every_figure(BrokenStyles([4]), [3, 4, 5])[figure](tmp_path / "x.png")
    assert Image.open(out).text["not finite"] == said
    whole = every_figure(BrokenStyles([]), [3, 4, 5])[figure](tmp_path / "y.png")
    assert "not finite" not in Image.open(whole).text


@pytest.mark.parametrize(
    "figure", ["uncurated", "mixing", "truncation", "noise_detail", "noise_components", "progression"]
)
def test_a_wrong_name_is_refused_and_nothing_is_written(tmp_path, monkeypatch, figure):
    monkeypatch.setattr(noise, "NOISES", 8)
    write = every_figure(StyledDisks(), [3, 4, 5])[figure]
    with pytest.raises(UserError, match=r"must end in \.png"):
        write(tmp_path / "x.gif")
    assert not list(tmp_path.iterdir())

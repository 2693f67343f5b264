"""Figures of models that draw by rule, so that every face on the page is known beforehand."""

import hashlib
import json
from itertools import pairwise
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from omokage.explore.contact_sheet import PAPER
from PIL import Image

from omokage.errors import UserError
from omokage.explore import figures
from omokage.sampling import latents, to_pixels


class StyledDisks:
    """Styles of ten layers, two a size: coarse ones place a disk, middle and fine ones colour it.

    Noise is a grain of its layer's size, on the left half alone.
    """

    latent_shape = (3,)
    layers = 10
    recipe = SimpleNamespace(name="disks", model={"name": "stylegan"})
    images_seen = 12_345
    snapshot_hash = hashlib.sha256(b"disks").hexdigest()

    def __init__(self, resolution=(64, 64)):
        self.resolution = resolution
        self.layer_sizes = [tuple(side >> (4 - i // 2) for side in resolution) for i in range(10)]
        grain = torch.Generator().manual_seed(0)
        self.grain = [torch.rand(*size, generator=grain) - 0.5 for size in self.layer_sizes]

    def mapping(self, z, psi=1.0):
        return psi * z[:, None].expand(-1, self.layers, -1)

    def synthesis(self, w, noise="constant"):
        kinds = [noise] * self.layers if isinstance(noise, str) else noise
        height, width = self.resolution
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        place = torch.tanh(w[:, 0, :2, None, None]) / 2
        disk = torch.sigmoid((0.4 - torch.hypot(x - place[:, 0], y - place[:, 1])) * 30)[:, None]
        images = disk * torch.tanh(w[:, 4, :, None, None]) + (1 - disk) * torch.tanh(w[:, 8, :, None, None])
        for kind, grain in zip(kinds, self.grain, strict=True):
            if kind != "none":
                drawn = grain if kind == "constant" else torch.rand(len(w), *grain.shape) - 0.5
                drawn = drawn.expand(len(w), *grain.shape)[:, None]
                images = images + 0.2 * torch.nn.functional.interpolate(drawn, self.resolution) * (x < 0)
        return images.clamp(-1, 1)

    def decode(self, z, psi=1.0):
        return self.synthesis(self.mapping(z, psi))


class PlainDisks(StyledDisks):
    """The same family of pictures without styles."""

    recipe = SimpleNamespace(name="plain", model={"name": "dcgan"})


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
    draw = figures._Sheet.face

    def listen(self, pixels, x, y, size):
        placed.append(((self.x + round(x), self.y + round(y)), size))
        draw(self, pixels, x, y, size)

    monkeypatch.setattr(figures._Sheet, "face", listen)
    return placed


@pytest.fixture
def words(monkeypatch):
    """What was written, where the letters are those of a line."""
    said = []
    draw, draw_all = figures._Sheet.text, figures._Sheet.headings

    def listen(self, text, *args, **kwargs):
        said.append(text)
        draw(self, text, *args, **kwargs)

    def listen_to_all(self, texts, *args, **kwargs):
        said.extend(texts)
        draw_all(self, texts, *args, **kwargs)

    monkeypatch.setattr(figures._Sheet, "text", listen)
    monkeypatch.setattr(figures._Sheet, "headings", listen_to_all)
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


@pytest.mark.parametrize("resolution", [(64, 64), (96, 64)])
def test_uncurated_shows_every_seed_in_its_size(tmp_path, boxes, resolution):
    model = PlainDisks(resolution)
    out = figures.write_uncurated(model, tmp_path / "u.png", seed=7, rows=1, halvings=[0, 1, 1, 2])
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
    images = model.decode(latents(range(7, 16), (3,)))
    for i, (box, size) in enumerate(boxes):
        assert np.abs(patch(picture, box, size) - expected(images[i : i + 1], size)[0]).max() == 0
    assert Image.open(out).text["seeds"] == "7-15"


def test_mixing_takes_the_styles_it_says(tmp_path, boxes, words):
    model = StyledDisks()
    out = figures.write_mixing(
        model, tmp_path / "m.png", sources_a=[1, 2, 3, 4, 5, 6], sources_b=[11, 12], psi=0.8
    )
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


def test_truncation_has_a_column_for_every_psi(tmp_path, boxes, words):
    model = StyledDisks()
    out = figures.write_truncation(model, tmp_path / "t.png", seeds=[3, 9])
    picture = pixels(out)
    assert framed(picture)
    psis = [1.2, 1, 0.7, 0.5, 0.25, 0, -0.25, -0.5, -1]
    assert [word for word in words if word.startswith("psi")] == [f"psi {psi:g}" for psi in psis]
    z = latents([3, 9], (3,))
    faces = [model.decode(z[row : row + 1], psi) for psi in psis for row in range(2)]
    for (box, size), face in zip(boxes, faces, strict=True):
        assert np.abs(patch(picture, box, size) - expected(face, size)[0]).max() <= 1
    assert Image.open(out).text["psi"] == "1.2,1,0.7,0.5,0.25,0,-0.25,-0.5,-1"


def test_without_styles_truncation_ends_at_psi_0(tmp_path, words):
    figures.write_truncation(PlainDisks(), tmp_path / "t.png", seeds=[0])
    assert [word for word in words if word.startswith("psi")] == [
        f"psi {psi:g}" for psi in (1.2, 1, 0.7, 0.5, 0.25, 0)
    ]
    with pytest.raises(UserError, match=r"psi -0.5 .* dcgan has no styles; give psi of 0 or more"):
        figures.write_truncation(PlainDisks(), tmp_path / "t.png", psis=[1, -0.5])
    with pytest.raises(UserError, match="psi 3, allowed is -2 to 2"):
        figures.write_truncation(StyledDisks(), tmp_path / "t.png", psis=[3])


def test_noise_detail_looks_where_noise_is(tmp_path, boxes, words, monkeypatch):
    monkeypatch.setattr(figures, "NOISES", 24)
    model = StyledDisks()
    out = figures.write_noise_detail(model, tmp_path / "n.png", seeds=[2])
    picture = pixels(out)
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
    again = figures.write_noise_detail(model, tmp_path / "again.png", seeds=[2])
    assert (pixels(again) == picture).all()  # noise comes from its seed


def test_noise_components_take_noise_from_the_layers_they_say(tmp_path, boxes):
    model = StyledDisks()
    out = figures.write_noise_components(model, tmp_path / "c.png", seeds=[2], psi=1.0)
    picture = pixels(out)
    assert framed(picture)
    assert apart(boxes)
    w = model.mapping(latents([2], (3,)))
    kinds = [(10, 0), (0, 0), (0, 8), (8, 0)]  # constant before the first number, from the second on
    for (box, size), (before, after) in zip(boxes[::2], kinds, strict=True):
        noise = ["constant" if i < before or (after and i >= after) else "none" for i in range(10)]
        shown, meant = patch(picture, box, size), expected(model.synthesis(w, noise), size)[0]
        assert (np.abs(shown - meant).max(2) > 1).mean() < 0.1  # but for the frame of what is near


@pytest.mark.parametrize("figure", ["mixing", "noise_detail", "noise_components"])
def test_figures_of_styles_refuse_others_by_name(tmp_path, figure):
    write = getattr(figures, f"write_{figure}")
    name = figure.replace("_", "-")
    with pytest.raises(
        UserError, match=rf"figure {name}: dcgan has no styles; use .*uncurated.*stylegan"
    ) as caught:
        write(PlainDisks(), tmp_path / "x.png")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda out: figures.write_uncurated(StyledDisks(), out, rows=0), "at least one row"),
        (lambda out: figures.write_uncurated(StyledDisks(), out, halvings=[9]), "sizes from 0"),
        (lambda out: figures.write_mixing(StyledDisks(), out, sources_a=[1, 2]), "2 seeds for A, at least 3"),
        (lambda out: figures.write_truncation(StyledDisks(), out, psis=[]), "no psi given"),
        (lambda out: figures.write_progression(out.parent / "no", out), "is no run folder"),
        (lambda out: figures.write_uncurated(StyledDisks(), out.with_suffix(".gif")), r"must end in \.png"),
    ],
)
def test_impossible_wishes_are_refused_in_one_line(tmp_path, call, said):
    with pytest.raises(UserError, match=said) as caught:
        call(tmp_path / "x.png")
    assert "\n" not in str(caught.value)


def test_coarse_middle_and_fine_are_by_size():
    def of(*counts):
        sizes = [(4 << i, 4 << i) for i, count in enumerate(counts) for _ in range(count)]
        return [(part.start, part.stop) for part in figures.style_ranges(sizes)]

    assert of(2, 2, 2, 2, 2) == [(0, 4), (4, 8), (8, 10)]  # StyleGAN at 64 px
    assert of(1, 2, 2, 2, 3) == [(0, 3), (3, 7), (7, 10)]  # StyleGAN2
    assert of(2, 2, 2) == [(0, 2), (2, 4), (4, 6)]
    assert of(2, 2) == [(0, 2), (2, 3), (3, 4)]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of nine snapshots and five grids; a snapshot's faces are as bright as its place in the run."""
    folder = tmp_path / "run"
    (folder / "grids").mkdir(parents=True)
    for i in range(9):
        (folder / f"snapshot-{1000 * 2**i:012d}.safetensors").touch()
    for i in range(5):
        cells = np.arange(64, dtype=np.uint8).repeat(16).reshape(8, 8, 4, 4).swapaxes(1, 2).reshape(32, 32)
        picture = np.stack([cells, np.full((32, 32), 50 * i, np.uint8), cells], 2)
        Image.fromarray(picture).save(folder / "grids" / f"images-{500 * (i + 1):012d}.png")

    def load(path):
        model = PlainDisks((4, 4))
        at = 256_000 if path == folder else int(path.stem.removeprefix("snapshot-"))
        model.decode = lambda z, psi=1.0: torch.full((len(z), 3, 4, 4), at / 256_000)
        return model

    monkeypatch.setattr("omokage.snapshot.load_model", load)
    return folder


def test_progression_from_snapshots(run, tmp_path, boxes, words):
    out = figures.write_progression(run, tmp_path / "p.png", seeds=[5, 70], rows=5)
    stages = [int(stage) for stage in Image.open(out).text["stages"].split(",")]
    assert stages == [1000, 4000, 16_000, 64_000, 256_000]  # equal factors
    assert [word for word in words if word[0].isdigit()] == ["1k", "4k", "16k", "64k", "256k"]
    picture = pixels(out)
    assert framed(picture)
    assert len(boxes) == 10
    for i, (box, size) in enumerate(boxes):
        value = round((stages[i // 2] / 256_000 + 1) * 127.5)
        assert np.abs(patch(picture, box, size) - value).max() <= 1


def test_progression_from_grids_shows_the_seeds_asked_for(run, tmp_path, boxes):
    out = figures.write_progression(run, tmp_path / "p.png", seeds=[0, 9, 63], source="grids")
    assert Image.open(out).text["stages"] == "500,1000,1500,2000,2500"
    picture = pixels(out)
    for i, (box, size) in enumerate(boxes):
        seed = [0, 9, 63][i % 3]
        assert (patch(picture, box, size) == (seed, 50 * (i // 3), seed)).all()
    with pytest.raises(UserError, match="grids show the seeds 0 to 63 at psi 1 only"):
        figures.write_progression(run, tmp_path / "p.png", seeds=[64], source="grids")


def test_a_montage_shows_every_moment(run, tmp_path, monkeypatch):
    film = tmp_path / "p.mp4"
    monkeypatch.setattr(figures, "LEAST_SECONDS", 0.9)
    figures.write_progression(run, tmp_path / "p.png", seeds=[0, 1, 2], video=film)
    with av.open(str(film)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert json.loads(container.metadata["comment"])["seeds"] == "0-2"
    assert len(frames) == 9 * 3 + 60  # nine tenths of a second, and two seconds of the last
    height, width = frames[0].shape[:2]
    middle = [int(frame[height // 3, width // 2, 1]) for frame in frames]
    for i, value in ((0, 128), (2, 128), (8 * 3 + 1, 255), (-1, 255)):
        assert abs(middle[i] - value) <= 4


def test_a_single_moment_is_no_progression(run, tmp_path):
    for path in list(run.glob("snapshot-*"))[1:]:
        path.unlink()
    with pytest.raises(UserError, match=r"1 of snapshots.*training\.keep=0"):
        figures.write_progression(run, tmp_path / "p.png", source="snapshots")
    assert figures.write_progression(run, tmp_path / "p.png").exists()  # grids instead

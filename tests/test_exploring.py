"""Explorations as files, on models whose every face is known, and on small ones of all families."""

import json
import weakref
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from standins import small_model
from torch import Tensor, nn

from omokage.abilities import HasStyles
from omokage.errors import UserError
from omokage.explore import walks
from omokage.explore.directions import Direction, moved
from omokage.explore.inputs import gather
from omokage.explore.latents import write_latents
from omokage.explore.mixing import KINDS, parse_choices
from omokage.explore.points import Points, drawn, of_seeds, stacked
from omokage.explore.provenance import edited, read_provenance
from omokage.explore.traversal import along, multiplied, traversal
from omokage.explore.truncation import at_psi, truncated
from omokage.exploring import (
    MADE_AGAIN,
    mix,
    remake,
    same_pixels,
    selected,
    steered,
    traverse,
    truncate,
    walk,
)
from omokage.families import MODELS
from omokage.model import Model
from omokage.pages.upscale import Upscale
from omokage.pages.video import write_video
from omokage.sampling import gathered, latents, sample, to_pixels
from omokage.settings import Settings


class Linear(nn.Module):
    """Styles w = M z for all layers; each quarter of the picture is a linear function of its own layer."""

    latent_shape = (4,)
    resolution = (8, 8)
    layers = 4
    layer_sizes = ((2, 2), (4, 4), (8, 8), (8, 8))

    def __init__(self) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.map = nn.Parameter(torch.randn(4, 4, generator=rng) / 4)
        self.paint = nn.Parameter(torch.randn(4, 3, 4, generator=rng) / 8)
        self.centre = nn.Parameter(torch.tensor([0.3, -0.2, 0.1, 0.4]))

    def mapping(self, z: Tensor, psi: float = 1.0) -> Tensor:
        w = self.centre + z @ self.map.T
        return self.centre.lerp(w, psi)[:, None].expand(-1, 4, -1)

    def synthesis(self, w: Tensor, noise: object = "constant") -> Tensor:
        colours = torch.einsum("lcd,bld->blc", self.paint, w)  # (B, 4 quarters, 3)
        return colours.view(-1, 2, 2, 3).permute(0, 3, 1, 2).repeat_interleave(4, 2).repeat_interleave(4, 3)

    def decode(self, z: Tensor, psi: float = 1.0) -> Tensor:
        return self.synthesis(self.mapping(z, psi))


@pytest.fixture(scope="module")
def linear() -> Model:
    return replace(small_model("stylegan2"), network=Linear().eval().requires_grad_(False))


@pytest.fixture(scope="module")
def plain() -> Model:
    return small_model("dcgan")


def faces(model, points, settings=Settings()):
    return stacked(drawn(model, points, settings), model.resolution)[0]


def of(model, seeds, settings=Settings()):
    return gathered(sample(model, seeds, settings))[0]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_walk_meets_every_face_bit_for_bit_in_every_family(name):
    model = small_model(name)
    for space in ("z", "w") if model.can(HasStyles) else ("z",):
        points = of_seeds(model, [3, 17, 1], Settings(psi=0.7), space)
        for path in walks.PATHS:
            places = walks.places(3, 7, loop=False)
            assert [(at.start, at.t) for at in places if at.t in (0, 1)] == [(0, 0), (1, 0), (1, 1)]
            film = walks.film(model, points, [[at] for at in places], Settings(), path)
            shown = [pixels[0] for pixels, _ in film]
            wanted = of(model, [3, 17, 1], Settings(psi=0.7))
            assert (np.stack(shown)[[0, 3, 6]] == wanted).all()
            assert (shown[1] != shown[0]).any()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_multiplying_by_one_is_the_face_itself_in_every_family(name):
    model = small_model(name)
    for space in ("z", "w") if model.can(HasStyles) else ("z",):
        points = of_seeds(model, [3], Settings(psi=0.7), space)
        (rows,) = traversal(model, points, [1, 2], [-3, 1, 3])
        assert [row.heading for row in rows] == ["1", "2"]
        for row in rows:
            assert (row.pixels[1] == of(model, [3], Settings(psi=0.7))[0]).all()
        assert any((row.pixels[0] != row.pixels[1]).any() for row in rows)


def test_traversal_multiplies_the_entry_it_says(linear):
    point = of_seeds(linear, [3], Settings(), "z")
    scaled = multiplied(linear, point, 2, [-3.0, 0.0, 1.0])
    assert torch.equal(scaled.values[:, 1], point.values[0, 1] * torch.tensor([-3.0, 0.0, 1.0]))
    others = [0, 2, 3]
    assert torch.equal(scaled.values[:, others], point.values[:, others].expand(3, -1))
    # In w, K = 0 is the average in that entry, in every layer.
    styled = of_seeds(linear, [3], Settings(), "w")
    nothing = multiplied(linear, styled, 3, [0.0]).values[0]
    torch.testing.assert_close(nothing[:, 2], linear.network.centre[2].expand(4))
    with pytest.raises(UserError, match="--entries: got 5; z of this model has the entries 1 to 4"):
        traversal(linear, point, [5])


def test_a_step_along_a_direction_is_added_where_it_acts(linear, tmp_path):
    given = gather(["3"], linear)
    move = Direction("hair=blue", torch.tensor([0.0, 0.5, 0.0, 0.0]), layers=(1, 2))
    point = moved(given.points, move, 2.0).w[0] - given.points.w[0]
    assert point[[0, 3]].abs().max() == 0
    torch.testing.assert_close(point[[1, 2]], torch.tensor([0.0, 1.0, 0.0, 0.0]).expand(2, 4))
    assert torch.equal(moved(given.points, move, 0).w, given.points.w)
    ((row,),) = along(linear, given.points, [move], [-1, 0, 2])
    assert (row.pixels[1] == of(linear, [3])[0]).all()
    assert (row.pixels[2] == faces(linear, moved(given.points, move, 2.0))[0]).all()
    made = traverse(linear, given, tmp_path / "t.png", moves=[move], times=[0, 1])
    told = read_provenance(made.path)
    assert dict(told.lines())["directions"] == "name hair=blue layers 1,2"
    assert same_pixels(made.path, remake(linear, told, tmp_path / "again.png")) == "the same, bit for bit"
    in_z = of_seeds(linear, [3], Settings(), "z")
    torch.testing.assert_close(moved(in_z, Direction("z", torch.ones(4)), -1).z, in_z.z - 1)
    with pytest.raises(UserError, match="hair=blue: a direction of 3 numbers, w has 4"):
        moved(given.points, Direction("hair=blue", torch.ones(3)), 1)


def test_recipes_stay_small_enough_for_readers(plain, tmp_path, monkeypatch):
    from omokage.explore import provenance
    from omokage.samples import write_grid

    monkeypatch.setattr(provenance, "MAX_CHUNK", 5000)
    many = gather(["0-99"], plain, settings=Settings(psi=0.5))
    edited_ = replace(many, origins=[{"name": name} for name in many.names])
    path = write_grid(plain, edited_, tmp_path / "grid.png", settings=Settings(psi=0.5))
    told = read_provenance(path)
    assert not told.complete
    assert told.arguments["latents"] == "left out"
    with pytest.raises(UserError, match="no latents; they were too many"):
        gather([path], plain)
    seeds = read_provenance(write_grid(plain, range(300), tmp_path / "seeds.png"))
    assert seeds.seeds == list(range(300))


def test_psi_on_a_linear_model_is_a_line_through_the_average(linear):
    given = gather(["3", "5"], linear)
    at = [(column.heading, column.pixels) for column in truncated(linear, given.points, [1, 0.5, 0, -1])]
    assert [heading for heading, _ in at] == ["psi 1", "psi 0.5", "psi 0", "psi -1"]
    assert (at[0][1] == of(linear, [3, 5])).all()
    assert (at[1][1] == of(linear, [3, 5], Settings(psi=0.5))).all()
    assert (at[2][1][0] == at[2][1][1]).all()  # the mean face
    exact = linear.synthesis(linear.mapping(torch.zeros(1, 4), Settings(psi=0)))
    assert (at[2][1][0] == to_pixels(exact)[0]).all()
    # A face that is known in w alone is truncated in w, to the same.
    bare = at_psi(linear, Points(w=given.points.w), 0.5, Settings())
    torch.testing.assert_close(bare.w, at_psi(linear, given.points, 0.5, Settings()).w)


@pytest.mark.parametrize("name", ["stylegan", "stylegan2"])
def test_a_mix_of_a_face_with_itself_is_itself(name, tmp_path):
    model = small_model(name)
    given = gather(["3"], model)
    for styles in (*KINDS, "1-2", "coarse,middle,fine"):
        made = mix(model, given, given, tmp_path / "m.png", styles=styles)
        assert (faces(model, made.points) == of(model, [3])[0]).all()


def test_a_mix_takes_the_layers_it_says(linear, tmp_path):
    a, b = gather(["3"], linear), gather(["5"], linear)
    made = mix(linear, a, b, tmp_path / "m.png", styles="1,4", enlarge=Upscale(2, "lanczos"))
    of_a, of_b, both = of(linear, [3])[0], of(linear, [5])[0], faces(linear, made.points)[0]
    assert (both[:4, :4] == of_b[:4, :4]).all()
    assert (both[4:, 4:] == of_b[4:, 4:]).all()
    assert (both[:4, 4:] == of_a[:4, 4:]).all()
    assert made.names == ["seed 3, layers 1,4 of seed 5"]
    assert made.origins[0]["edits"] == [{"styles": "layers 1,4", "from": "seed 5"}]
    assert made.origins[0]["parents"] == [{"seed": 3}, {"seed": 5}]
    assert [choice.layers for choice in parse_choices(linear, "coarse,fine")] == [(0,), (2, 3)]
    for wrong in ("0", "5", "coarse,1", "x", "2-1"):
        with pytest.raises(UserError, match="--styles"):
            parse_choices(linear, wrong)


def test_what_a_family_lacks_is_refused_by_name(plain, tmp_path):
    given = gather(["3"], plain)
    with pytest.raises(UserError, match="dcgan has no styles; these families can: stylegan, stylegan2"):
        mix(plain, given, given, tmp_path / "m.png")
    with pytest.raises(UserError, match="dcgan has no styles; give psi of 0 or more"):
        truncate(plain, given, tmp_path / "t.png", psis=[-1])
    assert not list(tmp_path.iterdir())


def reread(path):
    """What another decoder reads from a film: frames uint8 (H, W, 3), and seconds."""
    if path.suffix == ".mp4":
        film = cv2.VideoCapture(str(path))
        seconds = film.get(cv2.CAP_PROP_FRAME_COUNT) / film.get(cv2.CAP_PROP_FPS)
        found = []
        while True:
            there, frame = film.read()
            if not there:
                return np.stack(found), seconds
            found.append(frame[..., ::-1])
    with Image.open(path) as film:
        found, milliseconds = [], 0
        assert film.info["loop"] == 0
        for number in range(film.n_frames):
            film.seek(number)
            found.append(np.asarray(film.convert("RGB")))
            milliseconds += film.info["duration"]
        return np.stack(found), milliseconds / 1000


@pytest.mark.parametrize("suffix", [".mp4", ".webp", ".gif"])
def test_films_open_with_another_decoder(disk_model, tmp_path, suffix):
    given = gather(["3,17"], disk_model)
    made = walk(disk_model, given, tmp_path / f"w{suffix}", seconds=0.5, frames_per_second=20, loop=False)
    shown, seconds = reread(made.path)
    height, width = shown.shape[1:3]
    assert len(shown) == 10
    assert seconds == pytest.approx(0.5, abs=0.06)
    assert min(height, width) >= 256
    for frame, wanted in zip((shown[0], shown[-1]), of(disk_model, [3, 17]), strict=True):
        side = width // wanted.shape[1]
        small = frame.reshape(height // side, side, width // side, side, 3).astype(float).mean((1, 3))
        assert np.abs(small - wanted).mean() < 3


def test_mp4_is_what_browsers_play_and_says_how_it_was_made(plain, tmp_path):
    made = walk(plain, gather(["1-4"], plain), tmp_path / "w.mp4", seconds=0.4, tiles=(2, 1))
    with av.open(str(made.path)) as film:
        stream = film.streams.video[0]
        assert (stream.codec.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.frames == 12
        told = json.loads(film.metadata["comment"])
    assert json.loads(told["omokage"])["arguments"]["tiles"] == "2x1"
    assert told["seeds"] == "1-4"


@pytest.mark.parametrize("suffix", [".mp4", ".webp", ".gif"])
def test_a_film_holds_few_frames_whatever_its_length(tmp_path, suffix):
    made, most = [], 0

    def frames():
        nonlocal most
        for number in range(60):
            frame = np.full((32, 32, 3), number, np.uint8)
            made.append(weakref.ref(frame))
            most = max(most, sum(one() is not None for one in made))
            yield frame
            del frame

    write_video(frames(), tmp_path / f"f{suffix}", text={})
    assert len(made) == 60
    assert most <= 3


def test_faces_of_a_film_are_drawn_as_it_goes(plain, monkeypatch):
    drawn_at_once = []
    images = walks.images

    def listening(model, points, settings):
        drawn_at_once.append(len(points))
        return images(model, points, settings)

    monkeypatch.setattr(walks, "images", listening)
    places = [[at] for at in walks.places(2, 100)]
    film = walks.film(plain, of_seeds(plain, [0, 1], Settings(), "z"), places, Settings())
    next(film)
    assert drawn_at_once == [16]
    assert len(list(film)) == 99
    assert max(drawn_at_once) == 16


def test_steps_of_time_and_easing():
    for ease, easing in walks.EASINGS.items():
        at = [easing(t / 20) for t in range(21)]
        assert at == sorted(at)
        assert (at[0], at[20]) == (0, 1)
        assert at[10] == pytest.approx(0.5)
        closed = walks.places(3, 31, ease=ease)
        assert len(closed) == 31
        assert [place.start for place in closed if place.t == 0] == [0, 1, 2]
        assert closed[-1].end == 0
    for stops, frames, ease, words in [
        (1, 9, "smooth", "two faces"), (3, 2, "smooth", "more seconds"), (2, 9, "x", "--ease")
    ]:  # fmt: skip
        with pytest.raises(UserError, match=words):
            walks.places(stops, frames, ease=ease)


def test_a_straight_walk_is_straight(linear):
    points = of_seeds(linear, [3, 5], Settings(), "w")
    middle = walks.at_places(points, [walks.Place(0, 1, 0.25)])
    torch.testing.assert_close(middle.w[0], 0.75 * points.w[0] + 0.25 * points.w[1])
    round_ = walks.at_places(of_seeds(linear, [3, 5], Settings(), "z"), [walks.Place(0, 1, 0.25)])
    a, b = latents([3, 5], (4,))
    torch.testing.assert_close(round_.z[0], walks.slerp(a[None], b[None], 0.25)[0])


def test_psi_goes_from_one_face_to_the_other(plain):
    points = Points(z=latents([3, 5], plain.latent_shape), psi=(1.0, 0.5))
    on_the_way = walks.at_places(points, [walks.Place(0, 1, t) for t in (0.0, 0.5, 1.0)])
    assert on_the_way.psi == (1.0, 0.75, 0.5)


@pytest.mark.parametrize("name", ["dcgan", "stylegan2", "glow"])
def test_every_picture_is_made_again_from_its_recipe_bit_for_bit(name, tmp_path):
    from omokage.samples import write_each, write_grid, write_sheet

    model, settings = small_model(name), Settings(psi=0.7)
    given = gather(["3,17", "1"], model, settings=settings)
    how = {"settings": settings, "enlarge": Upscale(2, "lanczos")}
    pictures = [
        write_grid(model, [5, 3], tmp_path / "grid.png", **how),
        write_sheet(model, given, tmp_path / "sheet.png", columns=2, **how),
        write_each(model, [5], tmp_path, settings=settings)[0],
        walk(model, given, tmp_path / "walk.png", steps=3, ease="linear", **how).path,
        traverse(model, given, tmp_path / "traverse.png", entries=[1, 2], times=[0, 1], **how).path,
        truncate(model, given, tmp_path / "truncate.png", psis=[1, 0], **how).path,
    ]
    if model.can(HasStyles):
        other = gather(["8"], model, settings=settings)
        pictures.append(mix(model, given, other, tmp_path / "mix.png", styles="fine", **how).path)
    origins = [edited(origin, {"x": 1.5}) for origin in given.origins]
    shifted = replace(given, points=given.points.moved(given.points.values * 1.5), origins=origins)
    captions = ["a", "b", "c"]
    pictures += [
        steered(model, given, shifted, tmp_path / "steer.png", captions=captions, title="x", **how).path,
        selected(model, given, tmp_path / "select.png", captions=captions, title="y", among=9, **how).path,
    ]
    kinds = set()
    for picture in pictures:
        told = read_provenance(picture)
        kinds.add(told.kind)
        again = remake(model, told, tmp_path / "again.png")
        assert same_pixels(picture, again) == "the same, bit for bit", told.kind
        assert read_provenance(again) == told
        # Its faces are inputs again.
        assert len(gather([picture], model, settings=told.settings)) == len(told.faces)
    assert kinds == set(MADE_AGAIN) - (set() if model.can(HasStyles) else {"mix"})


def test_truncation_of_saved_latents_is_made_again_from_their_z(tmp_path):
    model, settings = small_model("stylegan2"), Settings(psi=0.5)
    given = gather(["3"], model, settings=settings)
    file = tmp_path / "a.safetensors"
    saved = write_latents(file, given.points, given.names, model.about, settings=settings)
    faces = gather([saved, "1"], model)
    assert faces.points.z is not None
    made = truncate(model, faces, tmp_path / "truncate.png", psis=[1, 0.5]).path
    assert same_pixels(made, remake(model, read_provenance(made), tmp_path / "again.png")) == (
        "the same, bit for bit"
    )


def test_what_is_not_made_again_says_why(plain, tmp_path):
    from omokage.samples import write_grid

    path = write_grid(plain, [5], tmp_path / "grid.png")
    told = read_provenance(path)
    for changed, words in [
        (replace(told, kind="figure uncurated"), "is not made from its recipe"),
        (replace(told, about=replace(told.about, snapshot_hash="9" * 64)), "made by another model"),
        (replace(told, faces=[{"name": "x"}]), "no latents"),
        (replace(told, arguments={}), "damaged"),
        (replace(told, upscale={"factor": 2, "name": "another"}), "enlarged by another"),
        (replace(told, upscale={"factor": 3, "name": "lanczos"}), "allowed is 2, 4 or 8"),
    ]:
        with pytest.raises(UserError, match=words):
            remake(plain, changed, tmp_path / "again.png")
    assert not (tmp_path / "again.png").exists()

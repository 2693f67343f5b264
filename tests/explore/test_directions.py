"""Directions: the regression on a model that is known, the file, and moving points."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from seeing import MIXED, READ, Patches, Reader, StyledPatches
from small import small_recipe

from omokage.attributes import ATTRIBUTES, Estimates
from omokage.errors import UserError
from omokage.explore import finding
from omokage.explore.directions import (
    BEYOND,
    SHOWN,
    Direction,
    Directions,
    apply,
    components,
    ends,
    factorised,
    first_weights,
    flat,
    moved,
    named,
    read_directions,
    regress,
    write_directions,
)
from omokage.explore.finding import FIRST_CHECK, estimated, find, judged, on_faces, table
from omokage.explore.points import Points, default_space, of_seeds
from omokage.explore.steering import Want, steer
from omokage.families import build_model
from omokage.model import Model
from omokage.sampling import latents
from omokage.settings import Settings


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return find(Patches(), Reader(), tmp_path_factory.mktemp("found"), samples=6000, check=128)


def known() -> torch.Tensor:
    """For each patch the shortest way that changes it alone, (4, 6), unit vectors."""
    ways = torch.linalg.pinv(MIXED).T
    return ways / ways.norm(dim=1, keepdim=True)


def test_regression_finds_the_known_directions(found):
    for name, way in zip(READ, known(), strict=True):
        vector = found.find(name).vector
        assert torch.cosine_similarity(vector, way, dim=0) > 0.99, name
        assert vector.norm() == pytest.approx(1, abs=0.1)  # the latents are standard normal


def test_regression_without_covariates_would_leak(found):
    glasses, mouth = MIXED[0], MIXED[1]
    assert mouth @ glasses > 0.5
    assert abs(found.find("glasses").vector @ mouth) < 0.05


def test_each_direction_is_reached_without_leakage(found):
    for name in READ:
        row = found.find(name)
        assert row.reach == 1
        assert row.support > 2000
        assert max(row.leakage.values()) <= 0.02, row.leakage


def test_the_null_direction_has_no_excess(found):
    model, reader = Patches(), Reader()
    points = of_seeds(model, range(FIRST_CHECK, FIRST_CHECK + 64), Settings(), "z")
    aside = Direction("aside", found.null, "glasses", "yes", limit=3)
    with_null = replace(found, rows=(aside,), refused={})
    steered = steer(model, reader, points, [Want("aside", steps=2)], with_null, null=True)
    assert max(abs(share) for share in steered.leakage().values()) == 0
    assert (
        steered.after.estimates.places("glasses") == steered.before.estimates.places("glasses")
    ).mean() > 0.95


def test_rare_values_are_refused_with_their_count():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 4, generator=draw)
    few = (x[:, 0] > 2.2).float().numpy()
    often = (x[:, 1] > 0).float().numpy()
    seen = Estimates({"glasses": np.stack([1 - few, few], 1), "mouth": np.stack([1 - often, often], 1)})
    result = regress(x, seen, least=100)
    assert "glasses" not in result.directions
    assert result.refused["glasses"].startswith(f"{int(few.sum())} of 1,000 samples are surely yes")
    assert "mouth" in result.directions


def test_unsure_estimates_do_not_count():
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(2000, 4, generator=draw)
    right = (x[:, 2] > 0).numpy()
    sure = np.where(np.abs(x[:, 2].numpy()) > 0.5, 0.9, 0.55)
    yes = np.where(right, sure, 1 - sure).astype(np.float32)
    # Where it is unsure, the network says the opposite.
    yes = np.where(sure < 0.6, 1 - yes, yes)
    result = regress(x, Estimates({"glasses": np.stack([1 - yes, yes], 1)}), confident=0.6)
    assert result.support["glasses"] == int((x[:, 2] > 0.5).sum())
    assert result.directions["glasses"][2] > 0.95


def test_one_of_many_values():
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(4000, 5, generator=draw)
    logits = torch.full((4000, 12), -20.0)
    logits[:, :3] = 6 * x[:, :3]
    result = regress(x, Estimates({"hair": logits.softmax(1).numpy()}))
    first = ATTRIBUTES["hair"].values[0]
    assert set(result.directions) == {named("hair", value) for value in ATTRIBUTES["hair"].values[:3]}
    assert int(result.directions[f"hair={first}"].argmax()) == 0


def test_the_file_comes_back(found, tmp_path):
    path = write_directions(tmp_path / "directions.safetensors", found)
    again = read_directions(tmp_path)
    assert again.names == found.names
    assert again.find("mouth").leakage == found.find("mouth").leakage
    assert torch.equal(again.find("mouth").vector, found.find("mouth").vector)
    assert again.refused == dict(found.refused)
    assert (again.space, again.samples, again.snapshot) == ("z", 6000, Patches.about.snapshot_hash)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"directions\.safetensors: damaged"):
        read_directions(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file; omokage directions"):
        read_directions(tmp_path / "none.safetensors")
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="is no file of directions"):
        read_directions(tmp_path / "w.safetensors")


def test_directions_of_another_model_are_refused(found):
    other = Patches()
    other.snapshot_hash = "f" * 64
    with pytest.raises(UserError, match="belong to another snapshot"):
        found.check(other)
    assert found.check(Patches()) is found


def test_apply_adds_directions(found):
    points = of_seeds(Patches(), [3, 4], Settings(), "z")
    there = apply(points, {"glasses": 2, "mouth": -1}, found)
    back = apply(there, {"glasses": -2, "mouth": 1}, found)
    assert torch.allclose(back.values, points.values, atol=1e-5)
    assert not torch.allclose(there.values, points.values, atol=0.1)
    assert torch.equal(apply(points, {"glasses": 0}, found).values, points.values)
    with pytest.raises(UserError, match="did you mean glasses"):
        apply(points, {"glases": 1}, found)
    with pytest.raises(UserError, match="this reader does not see it"):
        apply(points, {"lids": 1}, found)
    with pytest.raises(UserError, match="in z, the faces in w"):
        apply(Points(w=torch.zeros(1, 3, 6)), {"glasses": 1}, found)


def test_only_the_layers_of_a_direction_move():
    points = Points(w=torch.zeros(2, 3, 6))
    way = Direction("x", torch.ones(6), layers=(1,))
    there = moved(points, way, [1.0, 2.0]).values
    assert there[0, 1].tolist() == [1] * 6
    assert there[1, 1].tolist() == [2] * 6
    assert there[:, [0, 2]].abs().max() == 0


def test_layers_are_found_where_they_act(tmp_path):
    found = find(StyledPatches(), Reader(), tmp_path, samples=1500, check=24, unnamed=0)
    assert found.space == "w"
    for name in READ:
        assert found.find(name).layers == (1,)
        assert found.find(name).reach == 1


def test_an_interrupted_search_goes_on(tmp_path):
    whole = Reader()
    first = find(Patches(), whole, tmp_path / "a", samples=2200, check=16)

    class Stops(Exception):
        pass

    class Tired(Reader):
        def seen(self, images):
            if self.calls > 1200:
                raise Stops
            return super().seen(images)

    with pytest.raises(Stops):
        find(Patches(), Tired(), tmp_path / "b", samples=2200, check=16)
    assert [file.name for file in sorted((tmp_path / "b" / "estimates").glob("*.npz"))] == [
        "00000000-1024.npz"
    ]
    rest = Reader()
    second = find(Patches(), rest, tmp_path / "b", samples=2200, check=16)
    assert rest.calls == whole.calls - 1024
    assert second.names == first.names
    assert all(torch.equal(a.vector, b.vector) for a, b in zip(first.rows, second.rows, strict=True))
    again = Reader()
    find(Patches(), again, tmp_path / "b", samples=2200, check=16)
    assert again.calls == 16  # only the faces before any direction


def test_estimates_of_another_model_are_not_mixed(tmp_path):
    estimated(Patches(), Reader(), 200, tmp_path, Settings())
    with pytest.raises(UserError, match="estimates of another model or other settings"):
        estimated(Patches(), Reader(), 200, tmp_path, Settings(psi=0.5))


def test_factorisation_finds_the_direction_that_changes_most():
    weights = torch.diag(torch.tensor([1.0, 5.0, 2.0]))
    first, second = factorised(weights, torch.eye(3, dtype=torch.float64), 2)
    assert first.tolist() == pytest.approx([0, 1, 0])
    assert second.tolist() == pytest.approx([0, 0, 1])


def test_components_have_steps_of_one_deviation():
    covariance = torch.diag(torch.tensor([1.0, 9.0, 4.0], dtype=torch.float64))
    first, second = components(covariance, 2)
    assert first.tolist() == pytest.approx([0, 3, 0])
    assert second.tolist() == pytest.approx([0, 0, 2])


@pytest.mark.parametrize("family", ["dcgan", "skipgan", "vae", "stylegan2", "stylegan"])
def test_first_weights_of_families(family):
    recipe = small_recipe(family)
    model = Model(build_model(recipe.model).eval(), recipe, {"images": 1}, None, "0" * 64)
    weights = first_weights(model)
    assert weights is not None
    points = of_seeds(model, [0], Settings(), default_space(model))
    assert weights.shape[1] == flat(points).shape[1]


def test_unnamed_directions_are_named_by_what_they_move(tmp_path):
    model = StyledPatches()
    found = find(model, Reader(), tmp_path, samples=1500, check=24, unnamed=3)
    first = found.find("pca 1")
    assert not first.attribute
    assert set(first.moves) <= set(READ)
    assert any(line.startswith("pca 1: ") for line in table(found))
    assert any(line.startswith("no hair=black:") for line in table(found))


def test_too_few_samples_are_refused(tmp_path):
    with pytest.raises(UserError, match="no value is seen in 5,000 of 200 samples"):
        find(Patches(), Reader(), tmp_path, samples=200, least=5000)


def test_a_face_set_is_compared(tagged_faces):
    class Red(Reader):
        def seen(self, images):
            estimates, faces = super().seen(images)
            red = images[..., 0].mean((1, 2)) > images[..., 2].mean((1, 2))
            rows = np.zeros((len(images), 12), np.float32)
            values = ATTRIBUTES["hair"].values
            rows[np.arange(len(images)), np.where(red, values.index("red"), values.index("blue"))] = 1
            return Estimates({**estimates.probabilities, "hair": rows}), faces

    seen = on_faces(Red(), tagged_faces)
    assert seen.faces == 40
    assert seen.agreement["hair"][1] == 39  # one has no label
    assert seen.agreement["hair"][0] == 1
    assert seen.shares["hair=red"] == pytest.approx(0.5, abs=0.03)


def test_samples_are_those_of_their_seeds(tmp_path):
    model, reader = Patches(), Reader()
    seeds, estimates, lost = estimated(model, reader, 40, tmp_path, Settings())
    z = latents(seeds, model.latent_shape)
    assert lost == 0
    assert ((z @ MIXED[0] > 0).numpy() == (estimates.places("glasses") == 1)).mean() > 0.9


def test_a_direction_that_leaks_or_reaches_few_faces_has_no_slider():
    def row(name, reach, leakage):
        return Direction(name, torch.eye(4)[0], attribute=name, reach=reach, leakage={"eyes": leakage})

    rows = (row("good", 0.9, 0.05), row("leaks", 0.9, 0.1), row("weak", 0.7, 0.0), row("new", None, 0.0))
    none = torch.zeros(4)
    found = judged(Directions("w", rows, none[None], ("good",), {}, none, "0" * 64, "0" * 64, 10))
    assert [each.offered for each in found.rows] == [True, False, False, True]
    with pytest.raises(UserError, match="leaks: changes eyes in 10% of faces too"):
        found.find("leaks")
    assert "reached in only 70%" in found.refused["weak"]


def colours_in_a_row(number=6000):
    """Hair is brown, black or blue along one axis, black in between; glasses depend on it and on another."""
    x = torch.randn(number, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    hair = torch.full((number, len(ATTRIBUTES["hair"].values)), 1e-9, dtype=torch.float64)
    values = ATTRIBUTES["hair"].values
    for value, where in (("brown", x[:, 0] < -0.6), ("black", x[:, 0].abs() <= 0.6), ("blue", x[:, 0] > 0.6)):
        hair[where, values.index(value)] = 1
    glasses = torch.sigmoid(20 * (0.6 * x[:, 0] + 0.8 * x[:, 1]))
    seen = Estimates({"hair": hair.numpy(), "glasses": torch.stack([1 - glasses, glasses], 1).numpy()})
    return x, regress(x, seen)


@pytest.fixture(scope="module")
def row_of_colours():
    return colours_in_a_row()


def goal_of(result, name, **more):
    hair = name.partition("=")[2]
    return Direction(name, result.directions[name].float(), "hair", hair, goal=result.goals[name], **more)


def test_a_value_between_others_is_met_and_not_crossed(row_of_colours):
    x, result = row_of_colours
    points = Points(x[:200].float())
    black = goal_of(result, "hair=black")
    there = moved(points, black, 20).values
    # From both sides faces end beyond the middle by as much as BEYOND says, and never at the other side.
    expected = points.values[:, 0] * (1 - BEYOND)
    assert torch.allclose(there[:, 0], expected, atol=0.1)
    # What makes glasses stays: 0.6 x0 + 0.8 x1.
    axis = torch.tensor([0.6, 0.8, 0, 0, 0])
    assert float(((there - points.values) @ axis).abs().max()) < 0.1
    assert set(result.goals) == {"hair=brown", "hair=black", "hair=blue"}


def test_steps_to_a_goal_are_standard_deviations_up_to_its_end(row_of_colours):
    x, result = row_of_colours
    points = Points(x[:50].float())
    blue = goal_of(result, "hair=blue")
    one = moved(points, blue, 0.5).values - points.values
    last = ends(points, blue)
    assert torch.allclose(moved(points, blue, last).values, moved(points, blue, last + 3).values, atol=1e-5)
    far = last > 0.6
    assert far.sum() > 30
    # The samples are standard normal, so that a step has the length 1.
    assert torch.allclose(one.norm(dim=1)[far], torch.tensor(0.5), atol=0.03)
    back = moved(points, blue, -1).values - points.values
    assert torch.allclose(back, -blue.vector.expand_as(back), atol=1e-6)
    assert torch.equal(moved(points, blue, 0).values, points.values)
    nine_of_ten = float(ends(Points(x.float()), blue).quantile(0.9))
    assert result.goal_limits["hair=blue"] == pytest.approx(SHOWN / BEYOND * nine_of_ten, abs=0.1)


def test_a_goal_looks_at_the_layers_that_it_moves(row_of_colours):
    x, result = row_of_colours
    w = torch.zeros(40, 3, 5)
    w[:, 1] = x[:40].float()
    there = moved(Points(w=w), goal_of(result, "hair=black", layers=(1,)), 20).values
    expected = moved(Points(x[:40].float()), goal_of(result, "hair=black"), 20).values
    assert torch.equal(there[:, 1], expected)
    assert torch.equal(there[:, [0, 2]], w[:, [0, 2]])


def test_goals_come_back_from_the_file_and_old_files_have_none(row_of_colours, found, tmp_path):
    x, result = row_of_colours
    rows = tuple(goal_of(result, name) for name in result.goals)
    null, none = result.null.float(), torch.zeros(0, 5)
    with_goals = replace(found, rows=rows, null=null, normals=none, normal_names=())
    again = read_directions(write_directions(tmp_path / "goals.safetensors", with_goals))
    points = Points(x[:20].float())
    for row in rows:
        assert torch.equal(moved(points, again.find(row.name), 1.5).values, moved(points, row, 1.5).values)

    from safetensors import safe_open
    from safetensors.torch import save_file

    path = write_directions(tmp_path / "new.safetensors", found)
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        told = file.metadata()
    old = tmp_path / "old.safetensors"
    save_file(tensors, old, told | {"format": "omokage-directions-1"})
    assert all(row.goal is None for row in read_directions(old).rows)
    goals = tmp_path / "goals.safetensors"
    with safe_open(goals, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        told = file.metadata()
    save_file(tensors | {"goal.hair.way": torch.zeros(3, 4)}, goals, told)
    with pytest.raises(UserError, match="damaged"):
        read_directions(goals)


@pytest.mark.parametrize(
    ("goal", "straight", "offered", "kept"),
    [
        (0.98, 1.0, True, "goal"),
        (0.9, 0.92, True, "goal"),
        (0.5, 0.9, True, "straight"),
        (0.5, 0.9, False, "goal"),
    ],
)
def test_another_way_is_taken_only_if_it_reaches_clearly_more(
    row_of_colours, found, monkeypatch, goal, straight, offered, kept
):
    def measured(model, network, points, way, directions, settings):
        return replace(way, reach=goal if way.goal is not None else straight), None

    monkeypatch.setattr(finding, "measured", measured)
    _, result = row_of_colours
    row = goal_of(result, "hair=blue", limit=4.0, offered=offered)
    points = of_seeds(Patches(), range(8), Settings(), "z")
    taken = finding.best_way(Patches(), Reader(), points, row, 7.0, found, [], Settings())
    assert (taken.goal is None) == (kept == "straight")
    assert taken.limit == (7.0 if kept == "straight" else 4.0)
    assert taken.reach == (straight if kept == "straight" else goal)
    assert taken.offered == offered

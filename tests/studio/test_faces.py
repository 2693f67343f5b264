"""Face documents: their names, what they mean, and what is refused."""

import numpy as np
import pytest
import torch

from omokage.explore.directions import apply
from omokage.explore.mixing import mixed_styles
from omokage.explore.points import drawn, joined, of_seeds, stacked
from omokage.explore.truncation import at_psi
from omokage.explore.walks import Place, at_places
from omokage.sampling import gathered, sample
from omokage.settings import Settings
from omokage.studio import faces
from omokage.studio.faces import Resolver, parse
from omokage.studio.refused import Refused

ID = "0123456789ab"


def seed(number, model=ID, **more):
    return {"model": model, "from": {"seed": number}, **more}


def between(*parts, model=ID, weights=None, **more):
    weights = [1 / len(parts)] * len(parts) if weights is None else weights
    return {"model": model, "from": {"between": list(parts), "weights": weights}, **more}


def near(face, number, distance, **more):
    return {"model": face["model"], "from": {"near": face, "seed": number, "distance": distance}, **more}


def mix(one, other, layers, **more):
    return {"model": one["model"], "from": {"mix": [one, other], "layers": layers}, **more}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            seed(3),
            seed(3, psi=1, settings={"noise": "constant"}, conditions={}, edits={"hair=blue": 0}, keep=[]),
        ),
        (seed(3, psi=2), seed(3, psi=2.0)),
        (seed(3, edits={"a": 1, "b": 2.5}), seed(3, edits={"b": 2.5, "a": 1.0})),
        (seed(3, edits={"a": 1}, keep=["x", "y"]), seed(3, edits={"a": 1}, keep=["y", "x", "y"])),
        (seed(3), seed(3, keep=["mouth"])),  # without edits there is nothing to keep it from
        (near(seed(3), 1, 1), near(seed(3, psi=1.0), 1, 1.0)),
    ],
)
def test_the_same_face_has_one_name(one, other):
    assert faces.key(parse(one)) == faces.key(parse(other))
    assert faces.key(parse(faces.document(parse(one)))) == faces.key(parse(one))


def test_different_faces_have_different_names():
    some = [
        seed(3),
        seed(4),
        seed(3, psi=0.5),
        seed(3, settings={"noise": "none"}),
        seed(3, edits={"hair=blue": 1}),
        seed(3, edits={"hair=blue": 1}, keep=["mouth"]),
        near(seed(3), 1, 0.2),
        mix(seed(3), seed(4), "coarse"),
        mix(seed(4), seed(3), "coarse"),
        between(seed(3), seed(4), weights=[0.2, 0.8]),
    ]
    assert len({faces.key(parse(face)) for face in some}) == len(some)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (None, "object"),
        ([], "object"),
        ({"model": ID}, "from"),
        (seed(3, model="../../etc/x"), "hexadecimal"),
        (seed(-1), "seed"),
        (seed(True), "seed"),
        (seed(2**63), "seed"),
        (seed(1.0), "seed"),
        (seed(3, psi="1"), "psi"),
        (seed(3, psi=float("nan")), "psi"),
        (seed(3, psi=9), "-2 to 2"),
        (seed(3, extra=1), "extra"),
        (seed(3, settings={"psi": 1}), "psi"),
        (seed(3, settings={"noise": "random"}), "noise"),
        (seed(3, settings={"layers": 1.5}), "layers"),
        (seed(3, edits={"hair=blue": 21}), "20"),
        (seed(3, edits={"a\ud800": 1}), "edits"),
        (seed(3, edits=[1]), "edits"),
        (seed(3, keep="mouth"), "keep"),
        (seed(3, conditions={"hair": 1}), "conditions"),
        ({"model": ID, "from": {"seed": 1, "point": "0" * 64}}, "from"),
        ({"model": ID, "from": {"point": "../x"}}, "64"),
        (between(seed(1), seed(2), weights=[0.5]), "weights"),
        (between(seed(1), seed(2), weights=[0.9, 0.9]), "sum"),
        (between(weights=[]), "between"),
        (near(seed(1), 1, 1.1), "distance"),
        (mix(seed(1), seed(2, model="f" * 12), "coarse"), "different models"),
        ({"model": ID, "from": {"mix": [seed(1)], "layers": "coarse"}}, "two faces"),
    ],
)
def test_what_is_no_face_is_refused_in_a_sentence(wrong, said):
    with pytest.raises(Refused, match=said):
        parse(wrong)


def test_deep_and_large_documents_are_to_be_flattened():
    deep = seed(1)
    for _ in range(11):
        deep = near(deep, 1, 0.1)
    assert parse(deep).seed is None
    for _ in range(500):
        deep = near(deep, 1, 0.1)
    wide = between(*[between(*[seed(1, edits={f"direction {i}": 1.5 for i in range(20)})] * 8)] * 8)
    for large in (deep, wide):
        with pytest.raises(Refused) as refused:
            parse(large)
        assert refused.value.code == "too_deep"


@pytest.fixture(scope="module")
def resolvers(models):
    return [Resolver(one.model, directions=one.directions) for one in models]


def pixels(resolver, *documents):
    parsed = [parse(one) for one in documents]
    stacks = resolver.points(parsed)
    settings = faces.drawing_settings(resolver.model, parsed[0])
    return stacked(drawn(resolver.model, joined(stacks), settings), resolver.model.resolution)[0]


@pytest.mark.parametrize("which", [0, 1])
def test_seeds_are_what_sampling_draws(models, resolvers, which):
    model = models[which].model
    for psi in (1.0, 0.4):
        expected, _ = gathered(sample(model, [3, 17], Settings(psi=psi)))
        found = pixels(resolvers[which], *(seed(number, models[which].id, psi=psi) for number in (3, 17)))
        assert (found == expected).all()


@pytest.mark.parametrize("which", [0, 1])
def test_between_goes_where_a_walk_goes(models, resolvers, which):
    model, id_ = models[which].model, models[which].id
    ends = of_seeds(model, [3, 17], Settings(psi=0.7), resolvers[which].space)
    face = between(*(seed(number, id_, psi=0.7) for number in (3, 17)), model=id_, weights=[0.75, 0.25])
    (found,) = resolvers[which].points([parse(face)])
    expected = at_places(ends, [Place(0, 1, 0.25)])
    assert torch.equal(found.values, expected.values)
    assert found.psi == expected.psi


def test_a_corner_of_the_plane_is_the_face_itself(models, resolvers):
    corners = [seed(number, models[1].id, psi=psi) for number, psi in ((1, 0.5), (2, 1), (3, 0.7), (4, 0.9))]
    for number in range(4):
        weights = [float(number == place) for place in range(4)]
        whole = between(*corners, model=models[1].id, weights=weights)
        assert (pixels(resolvers[1], whole) == pixels(resolvers[1], corners[number])).all()


def test_mixing_takes_the_layers_that_are_named(models, resolvers):
    model, id_ = models[0].model, models[0].id
    w = of_seeds(model, [3, 17], Settings(), "w").w
    for layers, taken in (("coarse", [0]), ("2-3,6", [1, 2, 5])):
        (found,) = resolvers[0].points([parse(mix(seed(3, id_), seed(17, id_), layers))])
        assert torch.equal(found.w, mixed_styles(w[:1], w[1:], taken))


@pytest.mark.parametrize("which", [0, 1])
def test_a_variation_leaves_the_face_step_by_step(models, resolvers, which):
    id_ = models[which].id
    start = seed(3, id_, psi=0.8)
    rows = resolvers[which].points([parse(near(start, 5, distance)) for distance in (0, 0.2, 0.5, 1)])
    own, other = resolvers[which].points([parse(start), parse(seed(5, id_, psi=0.8))])
    away = [float((row.values - own.values).norm()) for row in rows]
    assert away == sorted(away)
    assert torch.allclose(rows[0].values, own.values, atol=1e-6)
    assert torch.allclose(rows[-1].values, other.values, atol=1e-5)


@pytest.mark.parametrize("which", [0, 1])
def test_psi_of_a_made_face_is_truncation(models, resolvers, which):
    model, id_ = models[which].model, models[which].id
    inner = between(seed(3, id_, psi=0.9), seed(17, id_, psi=0.9), model=id_)
    own, half = resolvers[which].points([parse(inner), parse({**inner, "from": inner["from"], "psi": 0.5})])
    if which == 0:
        assert torch.allclose(half.w, at_psi(model, own, 0.5, Settings()).w)
    else:
        assert half.psi == (pytest.approx(0.45),)
        assert torch.equal(half.values, own.values)


def test_edits_come_after_truncation(models, resolvers):
    model, id_ = models[0].model, models[0].id
    edits = {"hair=blue": 1.5, "glasses": -2.0}
    (found,) = resolvers[0].points([parse(seed(3, id_, psi=0.5, edits=edits))])
    truncated = of_seeds(model, [3], Settings(psi=0.5), "w")
    assert torch.allclose(found.w, apply(truncated, edits, models[0].directions).w, atol=1e-6)
    assert torch.equal(found.w[:, 3:], truncated.w[:, 3:])  # the layers that no direction acts on


def test_what_a_model_lacks_is_refused(models, resolvers):
    styled, plain = models[0].id, models[1].id
    with pytest.raises(Refused, match="no directions"):
        resolvers[1].points([parse(seed(3, plain, edits={"hair=blue": 1}))])
    with pytest.raises(Exception, match="no styles"):
        resolvers[1].points([parse(mix(seed(1, plain), seed(2, plain), "coarse"))])
    with pytest.raises(Exception, match="no direction"):
        resolvers[0].points([parse(seed(3, styled, edits={"hair=green": 1}))])
    with pytest.raises(Refused, match="no longer known"):
        resolvers[0].points([parse({"model": styled, "from": {"point": "0" * 64}})])


@pytest.mark.parametrize("which", [0, 1])
def test_a_flat_face_is_the_same_face(models, which):
    """Flattened, packed as JSON and unpacked again, a face keeps its pixels."""
    offered, kept = models[which], {}
    resolver = Resolver(offered.model, kept.get, offered.directions)
    id_ = offered.id
    face = near(between(seed(3, id_, psi=0.6), seed(9, id_), model=id_), 4, 0.3, psi=0.9)
    (point,) = resolver.points([parse(face)])
    flat = faces.flattened(offered.model, parse(face), point)
    packed = faces.packed_point(point)
    kept[faces.hash_of(point)] = faces.unpacked_point(packed)
    assert faces.hash_of(kept[faces.hash_of(point)]) == flat.base.point
    assert np.array_equal(pixels(resolver, faces.document(flat)), pixels(resolver, face))


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        {"space": "z"},
        {"space": "x", "packed": {"shape": [1], "float32": "AAAAAA=="}},
        {"space": "z", "packed": {"shape": [10**9, 10**9], "float32": ""}},
        {"space": "z", "packed": {"shape": [-1, -1], "float32": "AAAAAA=="}},
        {"space": "z", "packed": {"shape": [1], "float32": "AADAfw=="}},  # NaN
        {"space": "z", "packed": {"shape": [2], "float32": "AAAAAA=="}},
    ],
)
def test_damaged_points_are_refused(wrong):
    with pytest.raises(Refused):
        faces.unpacked_point(wrong)

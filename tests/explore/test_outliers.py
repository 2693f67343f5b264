import numpy as np
import pytest

from omokage.errors import UserError
from omokage.explore.outliers import COLUMNS, Scores, complexity, ranked, score
from omokage.metrics.likelihood import bits_per_dimension


def test_complexity_orders_pictures_as_it_should():
    rng = np.random.default_rng(0)
    flat = np.full((32, 32, 3), 90, np.uint8)
    stripes = flat.copy()
    stripes[:, ::4] = 200
    noise = rng.integers(0, 256, (32, 32, 3), np.uint8)
    half = np.where(np.arange(32)[:, None, None] < 16, noise, flat)
    found = complexity(np.stack([flat, stripes, half, noise]))
    assert (np.diff(found) > 0).all()
    assert found[0] < 0.3
    assert 7.9 < found[3] < 8.6


def test_scores_are_bits_of_the_flow_less_bits_compressed(family_model):
    model = family_model("glow")
    pictures = np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3), np.uint8)
    pictures[0] = 100
    found = score(model, pictures, seed=3)
    np.testing.assert_array_equal(found.plain, bits_per_dimension(model, pictures, seed=3).each)
    np.testing.assert_allclose(found.corrected, found.plain - complexity(pictures))


def test_what_is_not_finite_is_the_least_typical(family_model, monkeypatch):
    model = family_model("glow")
    pictures = np.full((3, 16, 16, 3), 100, np.uint8)
    broken = type("B", (), {"each": np.array([4.0, np.nan, 5.0])})
    monkeypatch.setattr("omokage.explore.outliers.bits_per_dimension", lambda *_, **__: broken)
    assert score(model, pictures).corrected.argmax() == 1


def test_what_is_shown_and_the_table_agree(family_model, tagged_faces, monkeypatch):
    rng = np.random.default_rng(0)
    fixed = Scores(rng.permutation(40) / 10, rng.permutation(40) / 20)
    monkeypatch.setattr("omokage.explore.outliers.score", lambda *_, **__: fixed)
    ranking = ranked(family_model("glow"), tagged_faces, show=3)
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in ranking.rows(tagged_faces)]
    assert [row["rank"] for row in rows] == list(range(1, 41))
    places = [tagged_faces.keys.index(row["key"]) for row in rows]
    assert sorted(places) == list(range(40))
    assert places == ranking.order.tolist()
    assert (np.diff(fixed.corrected[places]) <= 0).all()
    for row, place in zip(rows, places, strict=True):
        assert float(row["bits_per_dimension"]) == pytest.approx(fixed.plain[place])
        assert float(row["complexity"]) == pytest.approx(fixed.complexity[place])
        assert float(row["corrected"]) == pytest.approx(fixed.corrected[place])
    pixels = tagged_faces.everything(16)
    shown = {band.heading.split(":")[0]: band for band in ranking.bands}
    least, most = (shown[f"{word} typical, corrected for complexity"] for word in ("Least", "Most"))
    assert (least.pixels == pixels[places[:3]]).all()
    assert (most.pixels == pixels[places[::-1][:3]]).all()
    assert (shown["Most likely, not corrected"].pixels == pixels[np.argsort(fixed.plain)[:3]]).all()
    assert least.captions[0].endswith(f"{fixed.corrected[places[0]]:.2f}")


def test_a_real_ranking_has_every_face(family_model, tagged_faces):
    ranking = ranked(family_model("realnvp"), tagged_faces, show=4)
    assert sorted(ranking.order) == list(range(40))
    assert [len(band) for band in ranking.bands] == [4] * 4
    assert len(ranking.scores.plain) == 40
    assert len(list(ranking.rows(tagged_faces))) == 40


def test_what_has_no_likelihood_is_refused(family_model, tagged_faces):
    with pytest.raises(UserError, match=r"vae has no likelihood; these families can: glow, pixel-"):
        ranked(family_model("vae"), tagged_faces)

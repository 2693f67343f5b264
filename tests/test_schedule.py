import math

import pytest

from omokage.errors import UserError
from omokage.recipe import load_recipe, read_recipe
from omokage.schedule import batch_at, check_schedule, value_at


def test_points_are_met_and_held_at_both_ends():
    points = [[10, 4.0], [20, 2.0], [40, 3.0]]
    assert [value_at(points, 1000 * kimg) for kimg in (0, 10, 15, 20, 30, 40, 99)] == [4, 4, 3, 2, 2.5, 3, 3]


def test_warm_up_then_half_a_cosine():
    curve = {"peak": 8e-4, "warm_up": 20, "cosine": 120, "last": 1e-4}
    assert value_at(curve, 0) == 0
    assert value_at(curve, 10_000) == pytest.approx(4e-4)
    for share in (0, 0.1, 0.5, 0.9, 1):
        expected = 1e-4 + 7e-4 * (1 + math.cos(math.pi * share)) / 2
        assert value_at(curve, round(20_000 + 100_000 * share)) == pytest.approx(expected)
    assert value_at(curve, 10**9) == pytest.approx(1e-4)


def test_either_half_alone():
    assert value_at({"peak": 2.0, "warm_up": 10}, 10**6) == 2
    assert value_at({"peak": 2.0, "cosine": 10}, 0) == 2
    assert value_at({"peak": 2.0, "cosine": 10}, 5000) == pytest.approx(1)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"warm_up": 3}, "needs its peak"),
        ({"peak": 1.0, "warmup": 3}, "no setting 'warmup'"),
        ({"peak": -1.0}, "0 or more"),
        ({"peak": True}, "0 or more"),
        ({"peak": 1.0, "warm_up": 5, "cosine": 5}, "above warm_up"),
        ("fast", "write a number"),
        ([[0, 1.0], [0, 2.0]], "kimg must rise"),
    ],
)
def test_bad_schedules_are_refused_by_name(written, said):
    with pytest.raises(UserError, match=said) as caught:
        check_schedule(written, "training.learning_rate.default")
    assert str(caught.value).startswith("training.learning_rate.default")


def test_a_recipe_holds_a_curve_and_gives_it_back():
    recipe = load_recipe("dcgan", ["learning_rate={ default = { peak = 1e-3, warm_up = 5, cosine = 100 } }"])
    assert read_recipe(recipe.to_toml(), "again", "dcgan") == recipe
    assert value_at(recipe.training.learning_rate["default"], 5000) == 1e-3


def test_twice_the_same_kimg_is_a_jump():
    points = [[0, 4.0], [10, 4.0], [10, 1.0], [20, 2.0]]
    check_schedule(points, "x")
    assert [value_at(points, images) for images in (0, 9_999, 10_000, 15_000, 20_000)] == [4, 4, 1, 1.5, 2]
    with pytest.raises(UserError, match="kimg must rise"):
        check_schedule([[0, 1.0], [5, 1.0], [5, 2.0], [5, 3.0]], "x")


def test_a_batch_is_a_number_or_points():
    assert [batch_at(7, images, 2) for images in (0, 10**6)] == [7, 7]  # a plain number is never changed
    points = load_recipe("dcgan", ["batch=[[0, 512], [1200, 512], [1200, 256]]"]).training.batch
    assert [batch_at(points, images) for images in (0, 1_199_999, 1_200_000)] == [512, 512, 256]
    for images in range(0, 12_000, 777):
        between = batch_at([[0, 4], [12, 64]], images, 4)
        assert between % 4 == 0
        assert abs(between - (4 + images / 200)) <= 2
    assert batch_at([[0, 1]], 0, processes=4) == 4


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("0", "at least 1"),
        ("true", "whole number"),
        ("{ peak = 3 }", "whole number"),
        ("[[0, 8], [5, 0]]", "at least 1"),
        ("[[0, 8], [5, 7.5]]", "whole numbers"),
        ("[8, 4]", "write a number"),
    ],
)
def test_bad_batches_are_refused_by_name(written, said):
    with pytest.raises(UserError, match=said) as caught:
        load_recipe("dcgan", [f"training.batch={written}"])
    assert "training.batch" in str(caught.value)

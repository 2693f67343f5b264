import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omokage.report.curves import Series, _apart, chart, log_ticks, nice_ticks, smoothed, thinned


def numbers_of(svg: str) -> list[tuple[float, float]]:
    """The points of all curves."""
    found = re.findall(r'class="curve[^"]*" d="M([^"]+)"', svg)
    return [tuple(map(float, point.split())) for path in found for point in path.split("L")]


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_within_the_range(low, width):
    ticks = nice_ticks(low, low + width)
    assert len(ticks) <= 7
    slack = 1e-6 * max(abs(low), width)
    assert all(low - slack <= tick <= low + width + slack for tick in ticks)


def test_log_ticks_are_few_over_many_decades():
    assert 2 <= len(log_ticks(1e-8, 1e8)) <= 8


def test_points_lie_where_their_values_say():
    svg = chart([Series("a", [0, 10, 20], [0.0, 5.0, 10.0])], title="t", x_label="x", width=500, height=200)
    (x0, y0), (x1, y1), (x2, y2) = numbers_of(str(svg))
    assert x0 < x1 < x2
    assert y0 > y1 > y2  # upwards on the page
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.11)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.11)


def test_what_is_not_finite_is_left_out():
    values = [1.0, math.nan, math.inf, None, 2.0]
    svg = str(chart([Series("a", range(5), values)], title="t", x_label="x"))
    assert len(numbers_of(svg)) == 2
    assert "nan" not in svg
    assert chart([Series("a", [1], [math.nan])], title="t", x_label="x") == ""


def test_texts_are_escaped_and_the_picture_is_well_formed():
    series = [Series("<b>&\"'", [0, 1], [1.0, 1e5], colour=9, mark=True), Series("one", [3], [5.0])]
    svg = str(chart(series, title='"><script>', x_label="<x>", labels=True))
    root = ElementTree.fromstring(svg)
    assert root.attrib["aria-label"] == '"><script> over <x>'
    assert "<b>&\"'" in [text.text for text in root.iter("text")]
    assert any("dashed" in path.attrib["class"] for path in root.iter("path"))
    assert "logarithmic" in [text.text for text in root.iter("text")]


def test_one_outlier_does_not_flatten_the_rest():
    values = [1.0 + 0.01 * (i % 10) for i in range(200)]
    values[100] = 1e6
    svg = str(chart([Series("a", range(200), values)], title="t", x_label="x"))
    heights = [y for _, y in numbers_of(svg)]
    assert max(heights) - min(heights[:80]) > 20


def test_smoothing_keeps_ends_and_means():
    points = [(float(i), float(i % 2)) for i in range(600)]
    mean = smoothed(points)
    assert mean[0] == points[0]
    assert mean[-1] == points[-1]
    assert all(abs(y - 0.5) < 0.1 for _, y in mean[20:-20])
    assert len(thinned(points, 50)) <= 50
    assert thinned(points, 50)[-1] == points[-1]


@given(st.lists(st.floats(0, 200), max_size=9))
def test_labels_do_not_lie_on_one_another(places):
    moved = sorted(_apart(places, 13, 0, 200))
    assert all(b - a >= 13 - 1e-6 for a, b in pairwise(moved))

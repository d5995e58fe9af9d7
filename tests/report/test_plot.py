"""Plots: round ticks, points where they belong, nothing from nothing."""

from __future__ import annotations

import math
import re

import pytest

from medseg.report.plot import dot_strip, line_plot, ticks


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (0.13, 0.87), (-3.0, 12.0), (5.0, 5.0), (0.0, 0.0), (1e-6, 3e-6)]
)
def test_ticks_are_round_and_cover(low: float, high: float) -> None:
    marks = ticks(low, high)
    assert marks[0] <= low <= high <= marks[-1] + 1e-12
    assert 2 <= len(marks) <= 8
    assert marks == sorted(set(marks))


def test_a_line_rises_where_its_values_rise() -> None:
    svg = line_plot({"dice": [(1, 0.0), (2, math.nan), (3, 1.0)]}, x_name="epoch")
    points = re.search(r'points="([^"]*)"', svg)
    assert points is not None
    corners = [tuple(map(float, pair.split(","))) for pair in points[1].split()]
    assert len(corners) == 2  # what is not a number is left out
    assert corners[0][0] < corners[1][0]
    assert corners[0][1] > corners[1][1]  # SVG counts downwards


def test_long_logs_are_thinned_but_keep_their_end() -> None:
    svg = line_plot({"loss": [(n, n) for n in range(10_001)]}, x_name="epoch")
    points = re.search(r'points="([^"]*)"', svg)
    assert points is not None
    assert len(points[1].split()) <= 602
    assert points[1].split()[-1].startswith("508.0,")


def test_nothing_is_drawn_from_nothing() -> None:
    assert line_plot({"loss": [], "dice": [(1, math.inf)]}, x_name="epoch") == ""


def test_one_point_is_drawn() -> None:
    assert line_plot({"loss": [(1, 0.5)]}, x_name="epoch").count("<circle") == 1


def test_dots_lie_between_the_ends() -> None:
    places = [float(x) for x in re.findall(r'cx="([\d.]+)"', dot_strip([0.0, 0.5, 1.0], low=0.0, high=1.0))]
    assert places == sorted(places)
    assert places[1] == pytest.approx((places[0] + places[2]) / 2)

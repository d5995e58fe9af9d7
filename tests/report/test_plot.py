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


def test_whole_numbers_stay_whole_at_the_axis() -> None:
    for last in (2, 12, 20, 30, 77, 1000):
        marks = ticks(1, last, whole=True)
        assert all(mark.is_integer() for mark in marks)
        assert marks[0] <= 1 < last <= marks[-1]
        assert 2 <= len(marks) <= 10
    epochs = line_plot({"loss": [(n, 1.0) for n in range(1, 13)]}, x_name="epoch")
    assert re.findall(r">([\d.]+)</text>", epochs)[-6:] == ["2", "4", "6", "8", "10", "12"]
    assert ">2.5</text>" in line_plot({"loss": [(0.5, 1.0), (12, 1.0)]}, x_name="hours")


@pytest.mark.parametrize("words", ["{}", "{} a name of a good many letters", "{} \u809d\u81d3" * 20])
@pytest.mark.parametrize("count", [1, 9, 40])
def test_a_legend_stays_in_the_plot_whatever_it_holds(words: str, count: int) -> None:
    svg = line_plot({words.replace("{}", str(n)): [(1, n), (2, n)] for n in range(count)}, x_name="epoch")
    box = re.search(r'viewBox="0 0 (\d+) (\d+)"', svg)
    assert box is not None
    keys = re.findall(r'<rect x="([\d.]+)" y="(\d+)".*?</rect><text x="([\d.]+)" y="[\d.]+"[^>]*>([^<]*)</text>', svg)
    assert len({(x, y) for x, y, _, _ in keys}) == count
    for _, y, x, shown in keys:
        letters = len(shown) + sum(letter > "\u2fff" for letter in shown)
        assert float(x) + 6 * letters <= int(box[1])
        assert int(y) + 10 <= int(box[2])


def test_every_series_has_a_colour_of_its_own_the_same_in_line_and_legend() -> None:
    names = [f"label {n}" for n in range(60)]
    svg = line_plot({name: [(1, 0.5), (2, 0.6)] for name in names}, x_name="epoch")
    lines = re.findall(r'stroke="([^"]+)"', svg)
    assert len(set(lines)) == len(lines) == 60
    assert re.findall(r'<rect [^>]*fill="([^"]+)"', svg) == lines


def test_the_bold_series_is_thicker_over_the_others_and_keeps_its_place_in_the_legend() -> None:
    points = [(1, 0.5), (2, 0.6)]
    svg = line_plot({"mean": points, "liver": points, "spleen": points}, x_name="epoch", bold="mean")
    widths = [int(width) for width in re.findall(r'stroke-width="(\d+)"', svg)]
    assert widths[0] == widths[1] < widths[2]
    lines, keys = re.findall(r'stroke="([^"]+)"', svg), re.findall(r'<rect [^>]*fill="([^"]+)"', svg)
    assert keys == [lines[2], lines[0], lines[1]]
    alone = line_plot({"mean": points}, x_name="epoch", bold="mean")
    assert alone == line_plot({"mean": points}, x_name="epoch")


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

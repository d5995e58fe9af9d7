"""Numbered objects in pictures and pages: neighbours in distinct colours, counts, scores at every threshold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.labels import Label, LabelSet, distinct_color
from medseg.report.page import Html, element, join, number, table, tiles
from medseg.report.pictures import overlay_png
from medseg.volume import Segmentation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from medseg.volume import Volume

_COLORS = 9
_NEAR = 60.0  # in RGB
_REACH = 2  # voxels along an axis; objects as near as this are neighbours
_WORST = 10


def objects_png(
    volume: Volume,
    segmentation: Segmentation,
    numbers_zyx: NDArray[Any],
    label_ids: Sequence[int],
    *,
    letters: bool = True,
) -> bytes:
    """Draw the outlines of numbered objects, neighbours in distinct colours; see `overlay_png`.

    Labels of which there is no object are drawn as they are. The legend counts the objects of the others.

    Parameters
    ----------
    volume : Volume
        The scan.
    segmentation : Segmentation
        The mask the objects were made of.
    numbers_zyx : (Z, Y, X) unsigned integer
        Object numbers on the mask's grid, rising from 1 without a gap.
    label_ids : sequence of int
        The label of every object, the first one's first.
    letters : bool
        Whether to mark the patient's sides.

    Returns
    -------
    bytes
        A PNG file without metadata.
    """
    classes = neighbour_colors(numbers_zyx, len(label_ids))
    counts = {label.id: label_ids.count(label.id) for label in segmentation.labels}
    whole = [label for label in segmentation.labels if not counts[label.id]]
    array = classes[numbers_zyx]
    for place, label in enumerate(whole, start=_COLORS + 1):
        array[segmentation.array == label.id] = place
    colors = [Label(n, f"colour {n}", color) for n, color in enumerate(_colors(unlike=whole), start=1)]
    drawn = [Label(place, label.name, label.color) for place, label in enumerate(whole, start=_COLORS + 1)]
    names = [f"{label.name}: {_objects(counts[label.id])}" for label in segmentation.labels if counts[label.id]]
    shown = Segmentation(array, segmentation.geometry, _unlike(colors, drawn))
    return overlay_png(volume, shown, letters=letters, legend=(names, _COLORS))


def neighbour_colors(numbers_zyx: NDArray[Any], count: int) -> NDArray[np.uint16]:
    """Return a colour from 1 for every object, at its number, such that neighbours differ where nine colours allow it.

    The first colour that no neighbour has yet is taken, from a place in the row that differs from object to object.

    Parameters
    ----------
    numbers_zyx : (Z, Y, X) unsigned integer
        Object numbers, rising from 1 without a gap.
    count : int
        How many objects there are.

    Examples
    --------
    >>> neighbour_colors(np.array([[[1, 1, 0, 2]]], np.uint16), 2).tolist()
    [0, 1, 2]
    """
    neighbours: dict[int, set[int]] = {}
    for a, b in _neighbours(numbers_zyx):
        neighbours.setdefault(a, set()).add(b)
        neighbours.setdefault(b, set()).add(a)
    colors = np.zeros(count + 1, dtype=np.uint16)
    for own in range(1, count + 1):
        taken = {int(colors[other]) for other in neighbours.get(own, ())}
        row = [(own - 1 + step) % _COLORS + 1 for step in range(_COLORS)]
        colors[own] = next((color for color in row if color not in taken), row[0])
    return colors


def counts_of(case: Mapping[str, Any]) -> dict[int, str]:
    """Return, for every label id of a case in a manifest that was taken apart, its number of objects in words."""
    words = {}
    for entry in case.get("objects") or ():
        unit, name = ("mm²", "area_mm2") if "area_mm2" in entry else ("ml", "volume_ml")
        size = (entry.get(name) or {}).get("median")
        median = f", median {size:.3g} {unit}" if isinstance(size, (int, float)) else ""
        words[entry.get("id")] = f"{_objects(entry.get('count'))}{median}"
    return words


def instance_section(found: Mapping[str, Any] | None) -> list[Html]:
    """Return the part of an evaluation's page about objects; nothing where they were not asked for."""
    if not found:
        return []
    pooled: Sequence[Mapping[str, Any]] = found["pooled"]
    first = pooled[0]
    threshold = first["threshold"]
    facts = [
        ("objects predicted", first["tp"] + first["fp"]),
        ("objects in the reference", first["tp"] + first["fn"]),
        (f"F1 at IoU {threshold:g}", number(first["f1"])),
        ("mean AP", number(found["mean_ap"])),
        ("panoptic quality", number(first["pq"])),
    ]
    words = (
        "An object is found where its IoU with one of the reference is above the threshold. AP is TP / (TP + FP + FN), "
        "as in the Data Science Bowl 2018; here over all cases together."
    )
    header = ("IoU above", "F1", "AP", "precision", "recall", "PQ", "found", "invented", "missed")
    lines = [(f"{row['threshold']:g}", *_scores(row), row["tp"], row["fp"], row["fn"]) for row in pooled]
    scored = sorted((case for case in found["cases"] if case["f1"] is not None), key=lambda case: case["f1"])
    names = ("case", f"F1 at {threshold:g}", "mean AP", "PQ", "AJI", "predicted", "reference")
    worst = [_case(case) for case in scored[:_WORST]]
    return [
        element("h2", "Objects"),
        tiles(facts),
        element("p", words, class_="faint"),
        table(header, lines),
        element("h2", "Lowest F1 of objects"),
        table(names, worst),
        element(
            "details", element("summary", f"All {len(found['cases'])} cases"), table(names, map(_case, found["cases"]))
        ),
    ]


def with_counts(line: Html | str, words: str | None) -> Html:
    """Return a label's line with its number of objects under it, where there is one."""
    return join([line, element("div", words, class_="faint")] if words else [line])


def _objects(count: object) -> str:
    return f"{count} object" if count == 1 else f"{count} objects"


def _colors(unlike: Sequence[Label]) -> list[tuple[int, int, int]]:
    """Return the colours of objects: as many as are needed of those that are far from every label's that is drawn."""
    row = (distinct_color(n) for n in range(_COLORS * (len(unlike) + 1)))
    far = [color for color in row if all(math.dist(color, label.color) > _NEAR for label in unlike)]
    return (far + [distinct_color(n) for n in range(_COLORS)])[:_COLORS]


def _scores(row: Mapping[str, Any]) -> list[str | None]:
    return [number(row[key]) for key in ("f1", "ap", "precision", "recall", "pq")]


def _case(case: Mapping[str, Any]) -> tuple[object, ...]:
    scores = (number(case[key]) for key in ("f1", "mean_ap", "pq", "aji"))
    return (case["id"], *scores, case["predicted"], case["reference"])


def _neighbours(numbers_zyx: NDArray[Any]) -> list[tuple[int, int]]:
    """Return the pairs of objects that come near each other."""
    pairs = [np.zeros((0, 2), dtype=numbers_zyx.dtype)]
    for axis in range(numbers_zyx.ndim):
        along = np.moveaxis(numbers_zyx, axis, 0)
        for step in range(1, _REACH + 1):
            a, b = along[:-step], along[step:]
            apart = (a != b) & (a > 0) & (b > 0)
            pairs.append(np.unique(np.sort(np.stack([a[apart], b[apart]], axis=1), axis=1), axis=0))
    return [(int(a), int(b)) for a, b in np.unique(np.concatenate(pairs), axis=0)]


def _unlike(colors: Sequence[Label], drawn: Sequence[Label]) -> LabelSet:
    """Return the colours and the labels as one set; a label called like a colour gives the colour another name."""
    taken = {label.name for label in drawn}
    return LabelSet(
        (*(Label(c.id, c.name if c.name not in taken else f"{c.name} of objects", c.color) for c in colors), *drawn)
    )

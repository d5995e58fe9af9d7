"""Numbered objects: which label, what size, where; and how many."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from scipy import ndimage

from medseg.errors import GeometryError, PlanError
from medseg.geometry import Geometry
from medseg.instances import COLUMNS, Objects, measured, separate, summarised, table_text
from medseg.labels import LabelSet
from medseg.plan import InstancePlan
from medseg.volume import Segmentation

LABELS = LabelSet.from_names({3: "stone", 7: "cyst"})
OBLIQUE = np.array([[1.2, 0, 1.2, -20], [0, 1.5, 0, 30], [1.6, 0, -0.9, 7], [0, 0, 0, 1.0]])
SHEARED = np.array([[0, 0, 1.5, -20], [0.4, 1.5, 0, 30], [2.0, 0, 0, 7], [0, 0, 0, 1.0]])


def mask_of(array: object, affine: object = None) -> Segmentation:
    array = np.asarray(array, np.uint8)
    return Segmentation(array, Geometry(array.shape, np.eye(4) if affine is None else affine), LABELS)


def scene() -> np.ndarray:
    array = np.zeros((6, 10, 12), np.uint8)
    array[1:3, 1:4, 1:4] = 7
    array[1:3, 4:6, 1:4] = 3  # touches the cyst, and is another label
    array[4, 7:9, 7:11] = 7
    array[5, 0, 0] = 7
    return array


def test_objects_are_numbered_by_label_and_then_by_place() -> None:
    found = separate(mask_of(scene()), InstancePlan())
    assert found.array.dtype == np.uint16
    assert found.label_ids == (3, 7, 7, 7)
    assert [int(found.array[place]) for place in ((1, 4, 1), (1, 1, 1), (4, 7, 7), (5, 0, 0))] == [1, 2, 3, 4]
    assert np.array_equal(found.array > 0, scene() > 0)


def test_labels_and_sizes_that_are_not_asked_for_are_left_out() -> None:
    found = separate(mask_of(scene()), InstancePlan(labels=(7,), minimum_mm3=8.0))
    assert found.label_ids == (7, 7)
    assert found.labels.ids == (7,)
    assert not found.array[scene() == 3].any()
    assert found.array[5, 0, 0] == 0
    affine = np.diag([0.1, 0.3, 0.7, 1.0])  # a voxel of 0.021 mm3, whose multiples are not whole in binary
    assert separate(mask_of(scene(), affine), InstancePlan(labels=(7,), minimum_mm3=8 * 0.021)).label_ids == (7, 7)
    assert separate(mask_of(scene(), affine), InstancePlan(labels=(7,), minimum_mm3=8.1 * 0.021)).label_ids == (7,)


def test_a_label_in_one_slice_of_many_is_no_picture() -> None:
    array = np.zeros((5, 30, 50), np.uint8)
    y, x = np.mgrid[:30, :50]
    array[2][(np.hypot(y - 15, x - 15) < 9) | (np.hypot(y - 15, x - 32) < 9)] = 3
    thin = np.diag([0.2, 1.0, 1.0, 1.0])  # in a sheet 0.2 mm thick no voxel is deeper than 0.2 mm: it has no necks
    assert separate(mask_of(array, thin), InstancePlan(method="watershed")).label_ids == (3,)
    assert separate(mask_of(array[2:3], thin), InstancePlan(method="watershed")).label_ids == (3, 3)


@pytest.mark.parametrize("affine", [np.eye(4), OBLIQUE, SHEARED], ids=["plain", "oblique", "sheared"])
def test_sizes_and_places_are_those_of_the_voxels(affine: np.ndarray) -> None:
    found = separate(mask_of(scene(), affine), InstancePlan())
    rows = measured(found)
    for row in rows:
        where = np.argwhere(found.array == row.number)
        assert row.voxels == len(where)
        assert row.volume_ml == pytest.approx(len(where) * abs(np.linalg.det(affine[:3, :3])) / 1000)
        assert row.centroid_lps == pytest.approx(tuple(found.geometry.to_lps(where).mean(axis=0)))
        assert (row.first, row.last) == (tuple(where.min(axis=0)), tuple(where.max(axis=0)))
        assert np.pi / 6 * row.diameter_mm**3 == pytest.approx(row.volume_ml * 1000)
        assert row.area_mm2 is None
    centres = ndimage.center_of_mass(found.array > 0, found.array, found.numbers)
    assert found.geometry.to_index(np.array([row.centroid_lps for row in rows])) == pytest.approx(np.array(centres))


def test_in_a_picture_objects_have_an_area() -> None:
    array = np.zeros((1, 6, 8), np.uint8)
    array[0, 1:3, 1:5] = 3
    grid = np.array([[0, 0, 0.5, 0], [0, 2.0, 0, 0], [9.0, 0, 0, 0], [0, 0, 0, 1]])
    found = separate(mask_of(array, grid), InstancePlan())
    (row,) = measured(found)
    assert (row.area_mm2, row.volume_ml) == pytest.approx((8.0, 0.072))
    assert np.pi / 4 * row.diameter_mm**2 == pytest.approx(8.0)
    assert summarised(found, [row])[0]["area_mm2"] == {"mean": 8.0, "median": 8.0, "min": 8.0, "max": 8.0}


def test_counts_are_by_label_and_none_is_said_too() -> None:
    found = separate(mask_of(np.where(scene() == 3, 0, scene())), InstancePlan())
    stone, cyst = summarised(found, measured(found))
    assert stone == {"id": 3, "name": "stone", "count": 0, "volume_ml": None}
    assert (cyst["id"], cyst["count"]) == (7, 3)
    assert cyst["volume_ml"] == {"mean": 0.009, "median": 0.008, "min": 0.001, "max": 0.018}


def test_the_table_holds_a_line_an_object() -> None:
    found = separate(mask_of(scene()), InstancePlan())
    lines = list(csv.DictReader(io.StringIO(table_text(found, measured(found)))))
    assert tuple(lines[0]) == COLUMNS
    assert [(line["object"], line["label"], line["name"]) for line in lines] == [
        ("1", "3", "stone"), ("2", "7", "cyst"), ("3", "7", "cyst"), ("4", "7", "cyst"),
    ]  # fmt: skip
    nothing = separate(mask_of(np.zeros((2, 2, 2))), InstancePlan(method="watershed"))
    assert table_text(nothing, measured(nothing)) == ",".join(COLUMNS) + "\n"


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(PlanError, match="names the label 4; expected one of 3, 7"):
        separate(mask_of(scene()), InstancePlan(labels=(4,)))
    dust = np.zeros((1, 520, 520), np.uint8)
    dust[0, ::2, ::2] = 3
    with pytest.raises(PlanError, match=r"67600 objects.*at most 65535.*minimum_mm3"):
        separate(mask_of(dust), InstancePlan())
    with pytest.raises(GeometryError, match="the objects have shape"):
        Objects(np.zeros((1, 1, 1), np.uint16), mask_of(scene()).geometry, LABELS, ())

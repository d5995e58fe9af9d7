from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import interp1d

from medseg.errors import GeometryError, InputError
from medseg.geometry import Geometry
from medseg.io.dicom.findings import finding
from medseg.io.dicom.inventory.positions import stack
from medseg.io.dicom.regularise import interpolated, on_slices, plan_regular, slice_positions
from medseg.io.dicom.source import Irregular, Repairs, Slice, SourceSeries
from medseg.labels import LabelSet
from medseg.volume import Segmentation

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
OBLIQUE = (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)
LABELS = LabelSet.from_names({2: "one", 5: "other", 9: "third"})


def planned(along_mm, *, direction=(0.0, 0.0, 1.0), usual_mm=None, orientation=AXIAL, size=(6, 7), aside_mm=0.0):
    """Return the plan for slices at these distances along a line."""
    points = np.array([10.0, -20.0, 5.0]) + np.outer(along_mm, np.array(direction) / np.linalg.norm(direction))
    points[len(points) // 2, 0] += aside_mm
    usual_mm = usual_mm or stack(points, orientation).spacing_mm
    return plan_regular(
        points, orientation=orientation, pixel_spacing=(0.8, 0.7), size=size, usual_mm=usual_mm, frame_uid="1.2.3"
    )


def series_of(irregular, *, resampled=True):
    """Return a series of as many slices as the plan has stations."""
    slices = tuple(Slice(Path(f"{z}.dcm")) for z in range(len(irregular.stations)))
    series = SourceSeries(
        "ct-1", "CT", (slices,), None, (finding("missing-slice", "1 of 4 slices missing"),), irregular=irregular
    )
    return series.repaired(Repairs(on_irregular="resample")) if resampled else series


# -------------------------------------------------------------------------------------------------------- the plan
def test_missing_slices_leave_the_others_in_their_places():
    plan = planned([0, 5, 10, 20, 25, 45])
    assert plan.stations == (0, 1, 2, 4, 5, 9)
    assert plan.geometry.shape == (10, 6, 7)
    np.testing.assert_allclose(plan.geometry.spacing_mm, (5, 0.8, 0.7))
    np.testing.assert_allclose(plan.geometry.origin_lps, (10, -20, 5))
    assert plan.geometry.frame_of_reference_uid == "1.2.3"
    assert plan.geometry.axis_codes == "SPL"


def test_rounded_positions_are_on_the_grid_still():
    along = np.array([0, 1, 2, 5, 6, 7, 12]) * 3.27 + [0, 0.004, -0.005, 0.005, -0.003, 0.002, 0]
    assert planned(along).stations == (0, 1, 2, 5, 6, 7, 12)


def test_uneven_slices_keep_their_own_places_between_those_of_the_grid():
    along = np.array([0, 2.0, 4.1, 6.0, 9.0, 11.4])
    plan = planned(along)
    step = plan.geometry.spacing_mm[0]
    assert (plan.geometry.shape[0], step) == (7, pytest.approx(11.4 / 6))
    np.testing.assert_allclose(np.array(plan.stations) * step, along, atol=1e-9)
    assert plan.stations[0] == 0
    assert plan.stations[-1] == plan.geometry.shape[0] - 1


def test_positions_rounded_too_far_give_as_many_slices_as_there_are():
    plan = planned(np.round(np.arange(20) * 0.625, 1))
    assert (plan.geometry.shape[0], len(plan.stations)) == (20, 20)
    np.testing.assert_allclose(plan.geometry.spacing_mm[0], 11.9 / 19)


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE])
@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_every_slice_lies_where_the_plan_says_tilted_or_not(orientation, tilt):
    normal = np.cross(orientation[:3], orientation[3:])
    direction = normal + tilt * np.array(orientation[3:])
    along = np.array([0, 5, 10, 20, 25, 29])
    plan = planned(along, direction=direction, orientation=orientation)
    where = np.array([10.0, -20.0, 5.0]) + np.outer(along, direction / np.linalg.norm(direction))
    np.testing.assert_allclose(slice_positions(series_of(plan)), where, atol=1e-9)
    assert plan.geometry.is_sheared == (tilt > 0)


@pytest.mark.parametrize(
    "slices",
    [
        {"along_mm": [0, 5, 10, 20], "aside_mm": 0.5},
        {"along_mm": [0, 5, 5.005, 10]},
        {"along_mm": [0.0], "usual_mm": 5.0},
        {"along_mm": [0, 1, 2, 500]},
        {"along_mm": [0, 5, 10, 20], "direction": (1.0, 0.0, 0.0), "usual_mm": 5.0},
        {"along_mm": [0, 5, 10, 20], "usual_mm": float("nan")},
        {"along_mm": [0, 5, 10, 20], "size": (100_000, 100_000)},
    ],
    ids=["not on one line", "at one place", "a single one", "far off", "in their plane", "no spacing", "too large"],
)
def test_there_is_no_plan_for_slices(slices):
    assert planned(**slices) is None


@given(
    gaps=st.lists(st.floats(0.5, 6.0), min_size=1, max_size=12),
    tilt=st.floats(-0.4, 0.4),
    usual=st.floats(0.7, 4.0),
)
def test_a_plan_spans_the_slices_and_keeps_their_places(gaps, tilt, usual):
    along = np.concatenate([[0.0], np.cumsum(gaps)])
    plan = planned(along, direction=(0.0, tilt, 1.0), usual_mm=usual)
    if plan is None:
        assert along[-1] / usual > 7 * len(along)
        return
    length = plan.geometry.spacing_mm[0]
    assert np.all(np.diff(plan.stations) > 0)
    assert (plan.stations[0], plan.stations[-1]) == (0, plan.geometry.shape[0] - 1)
    np.testing.assert_allclose(np.array(plan.stations) * length, along, atol=max(0.011, 0.011 * length))


# ------------------------------------------------------------------------------------------------------- the image
def irregular_of(stations, size=(3, 4)):
    shape = (int(stations[-1]) + 1, *size)
    return Irregular(Geometry(shape, np.diag([2.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]]), tuple(map(float, stations)))


@pytest.mark.parametrize("stations", [(0, 1, 3), (0, 0.4, 1.7, 4), (0, 0.3, 0.6, 1)])
def test_values_are_interpolated_linearly(stations):
    irregular = irregular_of(stations)
    array = np.random.default_rng(0).normal(0, 500, (len(stations), 3, 4)).astype(np.float32)
    places = np.arange(irregular.geometry.shape[0])
    theirs = interp1d(stations, array, axis=0)(places)
    result = interpolated(array, irregular)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, theirs, rtol=1e-5, atol=1e-3)


def test_slices_are_copied_where_they_lie():
    array = np.random.default_rng(0).integers(-1000, 3000, (3, 3, 4)).astype(np.int16)
    result = interpolated(array, irregular_of((0, 1, 3)))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result[[0, 1, 3]], array)
    np.testing.assert_array_equal(result[2], (array[1].astype(float) + array[2]) / 2)


def test_the_type_stays_where_nothing_is_interpolated():
    array = np.random.default_rng(0).integers(-1000, 3000, (3, 3, 4)).astype(np.int16)
    result = interpolated(array, irregular_of((0, 1, 2)))
    assert result.dtype == np.int16
    np.testing.assert_array_equal(result, array)


def test_a_slice_that_is_no_number_spoils_no_copy():
    array = np.ones((3, 3, 4), np.float32)
    array[1] = np.nan
    assert np.isfinite(interpolated(array, irregular_of((0, 1, 3)))[[0, 3]]).all()


def test_another_number_of_slices_is_refused():
    with pytest.raises(InputError, match="shape"):
        interpolated(np.zeros((4, 3, 4)), irregular_of((0, 1, 3)))


# -------------------------------------------------------------------------------------------------------- the mask
def mask_on(irregular, seed=0):
    array = np.random.default_rng(seed).choice([0, 2, 5, 9], irregular.geometry.shape).astype(np.uint8)
    return Segmentation(array, irregular.geometry, LABELS)


@pytest.mark.parametrize("stations", [(0, 1, 3), (0, 0.4, 1.7, 4), (0, 0.5, 2.5, 3)])
def test_the_label_with_the_larger_weight_wins_and_ties_go_to_the_lower(stations):
    irregular = irregular_of(stations)
    mask = mask_on(irregular)
    weights = np.stack([(mask.array == i).astype(float) for i in (0, 2, 5, 9)])
    at_slices = interp1d(np.arange(irregular.geometry.shape[0]), weights, axis=1)(stations)
    theirs = np.array([0, 2, 5, 9])[np.argmax(np.round(at_slices, 9), axis=0)]
    result = on_slices(mask, series_of(irregular))
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, theirs)


def test_a_mask_of_an_even_series_is_itself(make_grid):
    geometry = make_grid()
    series = SourceSeries("ct-1", "CT", (tuple(Slice(Path("a.dcm"), z) for z in range(5)),), geometry)
    mask = Segmentation(np.zeros(geometry.shape, np.uint8), geometry, LABELS)
    assert on_slices(mask, series) is mask.array
    np.testing.assert_allclose(slice_positions(series), geometry.to_lps([[z, 0, 0] for z in range(5)]))


def test_a_mask_on_another_grid_is_refused():
    irregular = irregular_of((0, 1, 3))
    mask = mask_on(irregular_of((0, 1, 4)))
    with pytest.raises(GeometryError, match="not on the grid"):
        on_slices(mask, series_of(irregular))
    with pytest.raises(GeometryError, match="not on the grid"):
        on_slices(mask_on(irregular), series_of(irregular, resampled=False))
    with pytest.raises(GeometryError, match="no grid"):
        slice_positions(series_of(irregular, resampled=False))


def test_a_ball_comes_back_onto_its_slices():
    plan = planned([0, 2, 4, 7.5, 9, 11.2, 13, 15, 18.4, 20], direction=(0, 0.2, 1), size=(40, 44))
    series = series_of(plan)
    centre = plan.geometry.to_lps(np.array(plan.geometry.shape) / 2)

    def inside(points_lps):
        return np.linalg.norm(points_lps - centre, axis=-1) < 8.0

    index = np.stack(np.meshgrid(*map(np.arange, plan.geometry.shape), indexing="ij"), axis=-1)
    mask = Segmentation(inside(plan.geometry.to_lps(index)).astype(np.uint8) * 2, plan.geometry, LABELS)
    found = on_slices(mask, series) == 2
    in_plane = plan.geometry.to_lps(index[:1]) - plan.geometry.origin_lps
    truth = inside(slice_positions(series)[:, None, None] + in_plane)
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.93
    middle = [np.argwhere(m).mean(axis=0) for m in (found, truth)]
    assert np.abs(middle[0] - middle[1]).max() < 0.25

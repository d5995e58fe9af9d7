from __future__ import annotations

import numpy as np
import pytest

from medseg.io.dicom.inventory.positions import gap_between, slice_normal, stack

AXIAL = (1, 0, 0, 0, 1, 0)


def along_z(*levels):
    return [(-10.0, 20.0, z) for z in levels]


def codes(stacked):
    return [f.code for f in stacked.findings]


def test_slices_are_ordered_along_their_normal():
    assert stack(along_z(6, 0, 4, 2), AXIAL).places == ((1,), (3,), (2,), (0,))
    down = (1, 0, 0, 0, -1, 0)  # rows run to the front: the normal points to the feet
    assert stack(along_z(6, 0, 4, 2), down).places == ((0,), (2,), (3,), (1,))
    np.testing.assert_allclose(slice_normal(down), (0, 0, -1))


def test_regular_slices_have_a_measured_step():
    stacked = stack(along_z(0.0, 3.27, 6.54, 9.81), AXIAL)
    assert stacked.is_regular
    assert codes(stacked) == []
    np.testing.assert_allclose(stacked.step_lps, (0, 0, 3.27))


def test_jitter_of_a_hundredth_of_the_spacing_is_even():
    assert stack(along_z(0, 5.02, 9.99, 15), AXIAL).is_regular
    assert codes(stack(along_z(0, 5.3, 9.9, 15), AXIAL)) == ["uneven-spacing"]


def test_missing_slices_are_counted():
    stacked = stack(along_z(0, 5, 10, 20, 35), AXIAL)
    assert codes(stacked) == ["missing-slice"]
    assert "3 of 8 slices missing" in stacked.findings[0].message
    assert stacked.spacing_mm == 5.0
    assert stacked.step_lps is None
    assert not stacked.is_regular


def test_a_change_of_spacing_is_uneven():
    assert codes(stack(along_z(0, 2.5, 5, 10.6, 16.2), AXIAL)) == ["uneven-spacing"]


def test_slices_off_one_line_are_refused():
    stacked = stack([(0, 0, 0), (0, 0, 5), (40, 0, 10)], AXIAL)
    assert [(f.code, f.effect) for f in stacked.findings] == [("uneven-spacing", "refused")]


def test_repeated_positions_are_volumes():
    stacked = stack(along_z(0, 2, 4, 0, 2, 4), AXIAL)
    assert stacked.places == ((0, 3), (1, 4), (2, 5))
    assert codes(stacked) == ["four-d"]
    assert stacked.is_regular
    assert codes(stack(along_z(0, 2, 4, 2), AXIAL)) == ["duplicate-position"]
    assert codes(stack(along_z(7, 7, 7), AXIAL)) == ["four-d"]


def test_slices_shifted_at_one_level_are_told():
    found = codes(stack([(0, 0, 0), (0, 0, 2), (9, 0, 0), (9, 0, 2)], AXIAL))
    assert "duplicate-position" in found


@pytest.mark.parametrize("degrees", [-20.0, 0.5, 14.0])
def test_a_tilt_is_measured_from_positions(degrees):
    shift = np.tan(np.deg2rad(degrees))
    stacked = stack([(0, shift * z, z) for z in (0, 4, 8)], AXIAL)
    assert codes(stacked) == ["gantry-tilt"]
    assert f"{abs(degrees):.1f} degrees" in stacked.findings[0].message
    np.testing.assert_allclose(stacked.step_lps, (0, 4 * shift, 4))


def test_a_tenth_of_a_degree_is_no_tilt_but_is_kept():
    shift = np.tan(np.deg2rad(0.1))
    stacked = stack([(0, shift * z, z) for z in (0, 4, 8)], AXIAL)
    assert codes(stacked) == []
    np.testing.assert_allclose(stacked.step_lps, (0, 4 * shift, 4))


def test_one_slice_has_no_step():
    stacked = stack(along_z(3), AXIAL)
    assert stacked.is_regular
    assert stacked.step_lps is None


def test_slices_far_apart_are_told():
    assert [f.code for f in gap_between(1.25, 10.0)] == ["slice-gap"]
    assert gap_between(5.0, 6.5) == gap_between(None, 6.5) == gap_between(1.0, None) == ()


@pytest.mark.parametrize("levels", [(0, 2, 4, 6), (0, 2, 6), (0, 2.3, 4, 6), (0, 1.25, 2.5, 3.75)])
def test_highdicom_agrees_on_order_and_regularity(levels):
    from highdicom.spatial import get_volume_positions

    rng = np.random.default_rng(3)
    positions = [along_z(*levels)[i] for i in rng.permutation(len(levels))]
    spacing, ranks = get_volume_positions(positions, AXIAL, sort=True)
    stacked = stack(positions, AXIAL)
    assert stacked.is_regular == (spacing is not None)
    if spacing is not None:
        assert abs(spacing) == pytest.approx(stacked.spacing_mm)
        theirs = list(np.argsort(ranks))
        assert [place[0] for place in stacked.places] in (theirs, theirs[::-1])

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.planning.topology import features, topology

SIDES = st.tuples(*[st.integers(1, 300)] * 3)
SPACINGS = st.tuples(*[st.floats(0.2, 8)] * 3)


def test_hippocampus_gets_the_published_patch() -> None:
    found = topology((35, 50, 35), (1.0, 1.0, 1.0))
    assert found.patch == (40, 56, 40)
    assert found.strides == ((1, 1, 1),) + ((2, 2, 2),) * 3
    assert found.kernels == ((3, 3, 3),) * 4


def test_thick_slices_are_strided_and_convolved_late() -> None:
    found = topology((20, 256, 256), (6.5, 0.8, 0.8))
    assert found.strides[1:4] == ((1, 2, 2), (1, 2, 2), (1, 2, 2))
    assert [kernel[0] for kernel in found.kernels[:4]] == [1, 1, 1, 3]
    assert all(kernel[1:] == (3, 3) for kernel in found.kernels)


def test_depth_can_be_limited() -> None:
    assert len(topology((128, 128, 128), (1, 1, 1), max_stages=3).strides) == 3


def test_an_image_too_small_to_stride_still_has_two_stages() -> None:
    found = topology((5, 5, 5), (1, 1, 1))
    assert found.strides == ((1, 1, 1), (1, 1, 1))
    assert found.patch == (5, 5, 5)


@given(SIDES, SPACINGS)
def test_every_patch_fits_its_strides_and_keeps_four_voxels(sides: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    found = topology(sides, spacing)
    for side, patch, divisor in zip(sides, found.patch, found.divisor, strict=True):
        assert patch % divisor == 0
        assert side <= patch < side + divisor
        assert divisor == 1 or math.ceil(patch / divisor) >= 4
    assert len(found.kernels) == len(found.strides)


@pytest.mark.parametrize(("width", "most", "last"), [(16, 320, 320), (32, 512, 512), (400, 320, 400)])
def test_features_double_up_to_a_limit(width: int, most: int, last: int) -> None:
    row = features(width, 8, at_most=most)
    assert row[0] == width
    assert row[-1] == last
    assert all(b in (2 * a, last) for a, b in itertools.pairwise(row))

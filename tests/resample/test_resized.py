"""Between the same faces, as scikit-image and SciPy do it and nnU-Net asks them to."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.geometry import Geometry
from medseg.resample import resized
from medseg.resample.images import nearest, positions_between_faces
from medseg.volume import Volume
from tests.nnunet.folders import resampled

SHAPE = (9, 14, 17)


def scan() -> Volume:
    array = np.random.default_rng(3).normal(50, 300, (2, *SHAPE)).astype(np.float32)
    return Volume(array, Geometry(SHAPE, np.diag([4.0, 1.0, 1.2, 1.0])), ("a", "b"))


def grid_of(volume: Volume, shape: tuple[int, int, int]) -> Geometry:
    rows = zip(volume.geometry.shape, volume.geometry.spacing_mm, shape, strict=True)
    return volume.geometry.with_spacing([n * own / m for n, own, m in rows])


@pytest.mark.parametrize("shape", [(9, 14, 17), (9, 20, 25), (20, 9, 11), (5, 28, 17), (1, 14, 8)])
@pytest.mark.parametrize("apart", [None, 0, 1, 2])
@pytest.mark.parametrize("order", [1, 3])
def test_values_are_those_of_scikit_image(shape: tuple[int, int, int], apart: int | None, order: int) -> None:
    volume = scan()
    found = resized(volume, onto=grid_of(volume, shape), order=order, apart=apart)
    assert found.array.dtype == np.float32
    for channel, image in zip(found.array, volume.array, strict=True):
        np.testing.assert_allclose(channel, resampled(image, shape, order, apart), atol=0.01)  # of 300


def test_a_spline_stays_within_the_values_it_was_given() -> None:
    steps = np.zeros((1, 4, 16, 16), np.float32)
    steps[0, :, 8:] = 100
    volume = Volume(steps, Geometry((4, 16, 16), np.eye(4)))
    array = resized(volume, onto=grid_of(volume, (4, 31, 16)), order=3).array
    assert array.min() == 0
    assert array.max() == 100


def test_the_nearest_slice_is_that_of_scipy_for_every_count() -> None:
    from scipy.ndimage import map_coordinates

    for n in range(1, 40):
        for count in range(1, 40):
            positions = positions_between_faces(n, count)
            expected = map_coordinates(np.arange(float(n)), [positions], order=0, mode="nearest")
            assert nearest(positions, n).tolist() == expected.tolist()

"""Grids and images for the tests of DICOM: any orientation, oblique or tilted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from medseg.geometry import Geometry
from medseg.volume import Volume


@pytest.fixture
def make_grid():
    """Return a function that makes a grid from axis codes, rotated and tilted at will."""

    def make(codes="SPL", *, shape=(5, 6, 7), spacing_mm=(3.0, 0.8, 0.7), rotation_deg=(0, 0, 0), tilt_deg=0.0):
        plain = Geometry((4, 4, 4), np.diag([1.0, 1.0, 1.0, 1.0])).reoriented(codes)
        steps = plain.directions_lps * spacing_mm
        steps[:, 0] += np.tan(np.deg2rad(tilt_deg)) * spacing_mm[0] * plain.directions_lps[:, 1]
        affine = np.eye(4)
        affine[:3, :3] = Rotation.from_euler("xyz", rotation_deg, degrees=True).as_matrix() @ steps
        affine[:3, 3] = (-81.25, -97.5, 33.125)
        return Geometry(shape, affine)

    return make


@pytest.fixture
def make_image(make_grid):
    """Return a function that makes an image without any symmetry, on such a grid."""

    def make(codes="SPL", *, dtype=np.int16, low=-1024, high=3000, seed=0, **grid):
        geometry = make_grid(codes, **grid)
        array = np.random.default_rng(seed).integers(low, high, (1, *geometry.shape)).astype(dtype)
        return Volume(array, geometry, ("CT",))

    return make


@pytest.fixture
def assert_same_in_world():
    """Return a function that holds two images against each other, voxel by voxel in the patient."""

    def check(a: Volume, b: Volume, *, tol_mm=1e-3):
        assert a.array.shape[0] == b.array.shape[0]
        index = np.stack(np.meshgrid(*map(np.arange, a.geometry.shape), indexing="ij"), axis=-1)
        exact = b.geometry.to_index(a.geometry.to_lps(index))
        nearest = np.rint(exact).astype(int)
        off_mm = np.abs((exact - nearest) @ b.geometry.affine[:3, :3].T).max()
        assert off_mm <= tol_mm
        assert a.array[0].size == b.array[0].size
        np.testing.assert_array_equal(a.array[0], b.array[0][tuple(np.moveaxis(nearest, -1, 0))])

    return check

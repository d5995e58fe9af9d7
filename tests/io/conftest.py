"""Grids every format is tried with: the 48 ways along the patient's axes, and awkward ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medseg.geometry import Box, Geometry

SHAPE = (3, 4, 5)


def _along_axes(order: tuple[int, ...], signs: tuple[float, ...]) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = np.diag(signs)[:, order] * [2.5, 0.7, 0.9]
    affine[:3, 3] = [-123.4, 56.78, -901.2]
    return Geometry(SHAPE, affine)


def _rotation(degrees: float, axis: tuple[float, float, float]) -> np.ndarray:
    k = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _oblique(degrees: float, *, is_left_handed: bool = False) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = (_rotation(degrees, (1, -2, 0.5)) @ np.eye(3)[:, ::-1]) * [3.27, 0.9766, 0.61]
    if is_left_handed:
        affine[:3, 2] *= -1
    affine[:3, 3] = [210.123, -155.5, 1043.25]
    return Geometry(SHAPE, affine)


def _sheared(degrees: float) -> Geometry:
    affine = _oblique(20.0).affine.copy()
    affine[:3, 0] += np.tan(np.deg2rad(degrees)) * 3.27 * affine[:3, 1] / np.linalg.norm(affine[:3, 1])
    return Geometry(SHAPE, affine)


RIGHT_ANGLED = {
    f"{geometry.axis_codes}": geometry
    for geometry in (
        _along_axes(order, signs)
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1.0, -1.0), repeat=3)
    )
} | {
    "oblique": _oblique(38.7),
    "slightly-oblique": _oblique(0.3),
    "left-handed": _oblique(151.0, is_left_handed=True),
    "one-voxel": _oblique(38.7).crop(Box((1, 1, 1), (2, 2, 2))),
}
SHEARED = {"tilted": _sheared(14.0), "hardly-tilted": _sheared(0.2)}


@pytest.fixture(params=RIGHT_ANGLED.values(), ids=RIGHT_ANGLED.keys())
def right_angled(request: pytest.FixtureRequest) -> Geometry:
    """A grid every three-dimensional format can hold."""
    return request.param


@pytest.fixture(params=SHEARED.values(), ids=SHEARED.keys())
def sheared(request: pytest.FixtureRequest) -> Geometry:
    """A grid whose axes are not at right angles."""
    return request.param


@pytest.fixture(params=(RIGHT_ANGLED | SHEARED).values(), ids=(RIGHT_ANGLED | SHEARED).keys())
def grid(request: pytest.FixtureRequest) -> Geometry:
    """Every grid."""
    return request.param

"""From the positions of slices to a grid: their order, whether they are evenly spaced, on one line, tilted.

All of it follows ImagePositionPatient and ImageOrientationPatient (PS3.3 section C.7.6.2); nominal values such as
SliceThickness, SpacingBetweenSlices and GantryDetectorTilt are not for geometry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.io.dicom.findings import Finding, finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medseg.geometry import Geometry

SAME_PLACE_MM = 0.01  # positions closer than this are one
_EVEN = 0.01  # of the spacing: how far a slice may lie from its place on an even grid; highdicom allows as much
_TILT = 5e-3  # cosine: 0.29 degrees between slice vector and slice normal, as `Geometry.is_sheared`
_WHOLE = 0.05  # how far a gap may be off a whole number of spacings to count as missing slices
_SLICE_GAP = 2.0  # spacings over thicknesses beyond which most of the body between slices was not imaged


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices put in order.

    Attributes
    ----------
    places : tuple of tuple of int
        For each distinct position, rising along the slice normal, the slices that lie there.
    step_lps : (3,) float64 or None
        From one slice to the next; ``None`` where they are not evenly spaced, or only one.
    spacing_mm : float or None
        Length of the step; of an uneven stack, its usual spacing; ``None`` for a single position.
    findings : tuple of Finding
    """

    places: tuple[tuple[int, ...], ...]
    step_lps: NDArray[np.float64] | None
    spacing_mm: float | None
    findings: tuple[Finding, ...]

    @property
    def is_regular(self) -> bool:
        """Whether each distinct place holds as many slices, and they are evenly spaced."""
        return len({len(place) for place in self.places}) == 1 and (len(self.places) == 1 or self.step_lps is not None)


def slice_normal(orientation: Sequence[float]) -> NDArray[np.float64]:
    """Return the unit vector along which slices of these six direction cosines rise: row direction x column direction.

    Examples
    --------
    >>> slice_normal([1, 0, 0, 0, 1, 0])
    array([0., 0., 1.])
    """
    normal: NDArray[np.float64] = np.cross(orientation[:3], orientation[3:])
    return normal / np.linalg.norm(normal)


def stack(positions_lps: Sequence[Sequence[float]], orientation: Sequence[float]) -> Stack:
    """Put slices in order along their normal and say how they lie.

    Parameters
    ----------
    positions_lps : (n, 3) floats, mm
        ImagePositionPatient of each slice.
    orientation : six floats
        Direction cosines of rows and columns, the same for all slices.

    Examples
    --------
    >>> s = stack([(0, 0, 4), (0, 0, 0), (0, 0, 2)], [1, 0, 0, 0, 1, 0])
    >>> s.places, s.spacing_mm, s.step_lps
    (((1,), (2,), (0,)), 2.0, array([0., 0., 2.]))
    """
    positions = np.asarray(positions_lps, dtype=np.float64).reshape(-1, 3)
    normal = slice_normal(orientation)
    places = _places(positions, positions @ normal)
    points = positions[[place[0] for place in places]]
    found = _repeats(places, points @ normal)
    if len(points) == 1:
        return Stack(places, None, None, tuple(found))
    step = (points[-1] - points[0]) / (len(points) - 1)
    spacing = float(np.linalg.norm(step))
    off_grid = np.linalg.norm(points - points[0] - np.arange(len(points))[:, None] * step, axis=1).max()
    if off_grid > max(SAME_PLACE_MM, _EVEN * spacing):
        usual, uneven = _irregular(points, normal)
        return Stack(places, None, usual, (*found, *uneven))
    return Stack(places, step, spacing, (*found, *_tilt(step, normal)))


def gap_between(thickness_mm: float | None, spacing_mm: float | None) -> tuple[Finding, ...]:
    """Return a warning where slices lie so far apart that most of the body between them was not imaged."""
    if not thickness_mm or not spacing_mm or spacing_mm <= _SLICE_GAP * thickness_mm:
        return ()
    words = f"slices are {thickness_mm:g} mm thick and {spacing_mm:g} mm apart: the body between them was not imaged"
    return (finding("slice-gap", words),)


def oblique(geometry: Geometry) -> tuple[Finding, ...]:
    """Return a note where the axes of a grid are off the patient's."""
    if not geometry.is_oblique:
        return ()
    degrees = np.rad2deg(np.arccos(np.abs(geometry.directions_lps).max(axis=0).min()))
    return (finding("oblique", f"axes up to {degrees:.1f} degrees off the patient's"),)


def _places(positions: NDArray[np.float64], along: NDArray[np.float64]) -> tuple[tuple[int, ...], ...]:
    places: list[list[int]] = []
    for index in np.lexsort((*positions.T, np.round(along / SAME_PLACE_MM))):
        last = places[-1][0] if places else None
        if last is not None and np.linalg.norm(positions[index] - positions[last]) <= SAME_PLACE_MM:
            places[-1].append(int(index))
        else:
            places.append([int(index)])
    return tuple(tuple(place) for place in places)


def _repeats(places: tuple[tuple[int, ...], ...], along: NDArray[np.float64]) -> list[Finding]:
    counts = sorted({len(place) for place in places})
    if len(places) > 1 and np.diff(along).min() <= SAME_PLACE_MM:
        return [finding("duplicate-position", "slices at the same level are shifted against each other")]
    if len(counts) > 1:
        words = f"some positions hold {counts[0]} slice{'s' * (counts[0] > 1)}, others {counts[-1]}"
        return [finding("duplicate-position", words)]
    if counts[0] > 1:
        return [finding("four-d", f"{counts[0]} volumes on one grid: every position occurs {counts[0]} times")]
    return []


def _irregular(points: NDArray[np.float64], normal: NDArray[np.float64]) -> tuple[float, list[Finding]]:
    """Return the usual spacing, and what is wrong: slices missing, or lying unevenly, or not on one line."""
    gaps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    usual = float(np.median(gaps[gaps <= 1.5 * gaps.min()]))
    direction = (points[-1] - points[0]) / np.linalg.norm(points[-1] - points[0])
    aside = points - points[0] - np.outer((points - points[0]) @ direction, direction)
    if np.linalg.norm(aside, axis=1).max() > max(SAME_PLACE_MM, _EVEN * usual):
        words = "the slices do not lie on one line"
        return usual, [finding("uneven-spacing", words, effect="refused", remedy="Export the original series")]
    spacings = gaps / usual
    missing = int(np.rint(spacings).sum()) - len(gaps)
    if missing and np.abs(spacings - np.rint(spacings)).max() <= _WHOLE:
        words = f"{missing} of {len(points) + missing} slices missing: gaps of {_range(gaps)} mm"
        return usual, [finding("missing-slice", words), *_tilt(direction, normal)]
    return usual, [finding("uneven-spacing", f"gaps of {_range(gaps)} mm between slices"), *_tilt(direction, normal)]


def _tilt(step: NDArray[Any], normal: NDArray[np.float64]) -> list[Finding]:
    sine = float(np.linalg.norm(np.cross(step, normal)) / np.linalg.norm(step))
    if sine <= _TILT:
        return []
    degrees = np.rad2deg(np.arctan2(sine, float(step @ normal) / float(np.linalg.norm(step))))
    return [finding("gantry-tilt", f"slices are stacked {degrees:.1f} degrees off their normal (a tilted gantry)")]


def _range(gaps: NDArray[np.float64]) -> str:
    low, high = float(gaps.min()), float(gaps.max())
    return f"{low:.4g} to {high:.4g}"

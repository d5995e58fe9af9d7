"""Surfaces of labels as STL meshes: closed, facing outwards, in the patient's millimetres along LPS.

A mesh is the surface half way between the centres of voxels inside and outside a label, found by marching cubes
(Lorensen and Cline 1987, doi:10.1145/37402.37422). It is the mask's own surface, steps of thick slices included:
nothing is smoothed. Of the variants at hand the original one is taken: each of its edges belongs to exactly two
triangles that run through it in opposite directions, whatever the mask; the later variant of Lewiner et al. lets
surfaces touch along edges that four triangles share.

The format (StereoLithography Interface Specification, 3D Systems 1989) knows neither patient nor unit: a file's first
80 bytes say ``SPACE=LPS``, which 3D Slicer understands. One file holds one label.
"""

from __future__ import annotations

import importlib.util
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from medseg.errors import InputError, MissingExtraError, OutputError
from medseg.io.atomic import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from medseg.geometry import Geometry
    from medseg.labels import Label
    from medseg.volume import Segmentation

SUFFIX = ".stl"
_HEADER = b"medseg surface of a label. SPACE=LPS UNIT=mm".ljust(80)  # must not begin with "solid": that is text STL
_RECORD = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_PREFIX_BYTES = 84  # header, and the number of triangles
_HALF = 0.5
_SPREAD, _SPREAD_TOO = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)  # odd: they lose no bit
_LONGEST_NAME = 80


def require_mesh() -> None:
    """Refuse to go on without what meshes are made with.

    Raises
    ------
    MissingExtraError
        Where scikit-image is not installed.
    """
    if importlib.util.find_spec("skimage") is None:
        raise MissingExtraError(
            "STL meshes need scikit-image, which is not installed",
            remedy="Run: pip install 'medseg[stl]'",
            code="missing-extra",
        )


def write_stl(segmentation: Segmentation, folder: Path) -> tuple[Path, ...]:
    """Write one binary STL file per label that is there, ``<id>_<name>.stl``, into a folder.

    Parameters
    ----------
    segmentation : Segmentation
        On any grid: turned, sheared or left-handed.
    folder : Path
        Made where it is not there, its parent must be. It stays empty where the mask is.

    Returns
    -------
    tuple of Path
        The files, by rising label id.

    Raises
    ------
    MissingExtraError
        Where scikit-image is not installed.
    OutputError
        Where a file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from medseg.geometry import Geometry
    >>> from medseg.labels import LabelSet
    >>> from medseg.volume import Segmentation
    >>> mask = np.zeros((4, 4, 4), np.uint8)
    >>> mask[1:3, 1:3, 1:3] = 1
    >>> scan = Segmentation(mask, Geometry((4, 4, 4), np.diag([2.0, 1.0, 1.0, 1.0])), LabelSet.from_names({1: "tumor"}))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path] = write_stl(scan, pathlib.Path(folder) / "stl")
    ...     path.name, read_stl(path).shape
    ('1_tumor.stl', (44, 3, 3))
    """
    require_mesh()
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder cannot be made ({error.strerror})", where=str(folder)) from error
    written = []
    for label, box in zip(segmentation.labels, label_boxes(segmentation), strict=True):
        if box is not None:
            inside = segmentation.array[box] == label.id
            triangles = _surface(inside, [s.start for s in box], segmentation.geometry)
            written.append(folder / file_name(label))
            _save(triangles, written[-1])
    return tuple(written)


def file_name(label: Label) -> str:
    """Return the name of a label's file, safe on every file system.

    Examples
    --------
    >>> from medseg.labels import Label
    >>> file_name(Label(7, "Lunge / links (Oberlappen)", (1, 2, 3)))
    '7_Lunge_links_Oberlappen.stl'
    """
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", label.name)[:_LONGEST_NAME].strip("._-")
    return f"{label.id}_{safe}{SUFFIX}" if safe else f"{label.id}{SUFFIX}"


def read_stl(path: Path) -> NDArray[np.float32]:
    """Return the triangles of a binary STL file.

    Returns
    -------
    (n, 3, 3) float32
        Triangle, corner, coordinate; in `write_stl`'s files LPS mm, counter-clockwise seen from outside.

    Raises
    ------
    InputError
        Where the length of the file is not that of its triangles.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"the file cannot be read ({error.strerror})", where=path.name) from error
    count = int.from_bytes(content[80:_PREFIX_BYTES], "little")
    expected = _PREFIX_BYTES + count * _RECORD.itemsize
    if len(content) != expected:
        raise InputError(f"the file has {len(content)} bytes", expected=f"{expected}, a binary STL", where=path.name)
    corners: NDArray[np.float32] = np.frombuffer(content, _RECORD, offset=_PREFIX_BYTES)["corners"]
    return corners


def is_closed(corners: NDArray[np.integer[Any]]) -> bool:
    """Tell whether every edge belongs to exactly two triangles that run through it in opposite directions.

    Parameters
    ----------
    corners : (n, 3) integer
        Triangles by the numbers of their corners, as `numbered_corners` gives them.
    """
    edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]]).astype(np.int64)
    count = int(corners.max(initial=0)) + 1
    forward = np.sort(edges[:, 0] * count + edges[:, 1])
    backward = np.sort(edges[:, 1] * count + edges[:, 0])
    return bool((np.diff(forward) > 0).all() and np.array_equal(forward, backward))


def volume_and_centroid(triangles: NDArray[np.float32]) -> tuple[float, NDArray[np.float64]]:
    """Return what a closed surface holds, in cubic millimetres, and its centroid, by the divergence theorem.

    The volume is above 0 where the surface faces outwards.
    """
    middle = triangles.reshape(-1, 3).mean(axis=0, dtype=np.float64)  # coordinates far from 0 would cancel out
    a, b, c = np.moveaxis(triangles - middle, 1, 0)
    six = np.einsum("ij,ij->i", a, np.cross(b, c))
    volume = float(six.sum()) / 6
    return volume, middle + (six[:, None] * (a + b + c)).sum(axis=0) / (24 * volume)


def label_boxes(segmentation: Segmentation) -> list[tuple[slice, slice, slice] | None]:
    """Return the smallest block of voxels that holds each label, or ``None`` where it is absent; by rising id."""
    array = segmentation.array if segmentation.array.dtype.itemsize <= 2 else segmentation.array.astype(np.uint16)
    found: list[Any] = ndimage.find_objects(array, max_label=max(segmentation.labels.ids, default=1))
    return [found[label.id - 1] for label in segmentation.labels]


def _surface(inside_zyx: NDArray[np.bool_], start: list[int], geometry: Geometry) -> NDArray[np.float64]:
    """Return the triangles around a block of voxels that begins at index `start`, facing outwards."""
    from skimage.measure import marching_cubes

    padded = np.pad(inside_zyx, 1).astype(np.float32)
    made: tuple[NDArray[Any], ...] = marching_cubes(  # type: ignore[no-untyped-call]  # scikit-image ships no types
        padded, _HALF, method="lorensen", allow_degenerate=True
    )
    points, faces = made[:2]
    triangles: NDArray[np.float64] = geometry.to_lps(points.astype(np.float64) + np.array(start) - 1)[faces]
    if np.linalg.det(geometry.affine[:3, :3]) > 0:  # seen along (z, y, x) they face inwards; a mirror turns them round
        triangles = triangles[:, ::-1]
    return triangles


def _save(triangles: NDArray[np.float64], path: Path) -> None:
    records = np.zeros(len(triangles), _RECORD)
    records["corners"] = triangles
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    records["normal"] = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(_HEADER + len(records).to_bytes(4, "little") + records.tobytes())


def numbered_corners(triangles: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return triangles by the numbers of their corners, and the distinct corners.

    Parameters
    ----------
    triangles : (n, 3, 3) float32
        Corners are the same where all bits of their coordinates are; 0 and -0 are one.

    Returns
    -------
    (n, 3) integer
        Places in the next.
    (m, 3) float32
        The distinct corners.
    """
    points = np.ascontiguousarray(triangles + np.float32(0)).reshape(-1, 3)
    bits = points.view(np.uint32).astype(np.uint64)
    key = (bits[:, 0] | bits[:, 1] << np.uint64(32)) * _SPREAD ^ bits[:, 2] * _SPREAD_TOO
    _, first, numbers = np.unique(key, return_index=True, return_inverse=True)
    if not np.array_equal(points[first][numbers], points):  # two corners with one key
        _, first, numbers = np.unique(points, axis=0, return_index=True, return_inverse=True)
    return numbers.reshape(-1, 3), points[first]

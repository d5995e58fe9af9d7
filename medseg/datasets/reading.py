"""One case from disk: its channels on one grid, its mask on the same, and the hash of what was read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from medseg.errors import GeometryError, InputError, MedsegError
from medseg.io import PICTURE_SUFFIXES, describe, is_dicom, read_segmentation, read_volume, suffix_of
from medseg.io.voxels import COLOURS, as_colours
from medseg.resample import resample
from medseg.rois import RoiRules
from medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from medseg.case import Case
    from medseg.geometry import Geometry
    from medseg.labels import LabelSet

_Mask = TypeVar("_Mask", Segmentation, Volume)
GRID_TOLERANCE = 0.1  # of the smallest voxel side: rounding in a header, not another grid
_CHUNK = 1 << 20
_WHOLE = "Export the series again, whole: training takes no slices that were never scanned"
_REMEDIES = {  # in place of the flags of `segment`
    "missing-slice": _WHOLE,
    "uneven-spacing": _WHOLE,
    "four-d": "Give a folder that holds the files of one volume alone",
    "mosaic": "Convert it to NIfTI, one volume a file",
    "non-finite": "Replace NaN and infinite voxels, or take the case out",
    "several-series": "Give each series a folder of its own",
}


def read_case(
    case: Case, *, labels: LabelSet | None = None, channels: Sequence[str] = ()
) -> tuple[Volume, Segmentation]:
    """Return the image and the mask of a case, on one grid.

    A mask whose voxels are the image's but stored along other axes is turned: NIfTI masks of DICOM series often are.
    A picture drawn on an image that has a size, such as an X-ray, lies on it pixel on pixel.
    RTSTRUCT is drawn on the image's grid, SEG put on it, by the case's rules.

    Parameters
    ----------
    case : Case
        With a reference.
    labels : LabelSet, optional
        What the mask's values mean; by default every value present is named ``label_<value>``.
    channels : sequence of str, optional
        Names of the channels; by default those of the files.

    Raises
    ------
    InputError
        Where a file cannot be read, the mask lies on another grid than the image, or a value is no label.
    """
    if case.reference is None:
        raise InputError("the case has no mask", where=case.id)
    try:
        image = read_images(case.images, channels=channels)
        rules = rules_of(case.rules, labels)
        mask = read_segmentation(
            case.reference,
            labels=labels,
            onto=image.geometry,
            rules=rules,
            image=case.images[0],
            ignore=case.ignore,
        )
        mask = pixel_on_pixel(mask, case.reference, image.geometry)
        if not same_place(mask.geometry, image.geometry):
            raise InputError(
                f"the mask lies on the grid {mask.geometry}", expected=f"{image.geometry}, as its image", where=case.id
            )
    except MedsegError as error:
        where = f"{case.id}, {error.where}" if error.where not in {"", case.id} else case.id
        raise InputError(
            error.found, expected=error.expected, where=where, remedy=error.remedy, code=error.code
        ) from error
    turned = resample(mask, onto=mask.geometry.reoriented(image.geometry.axis_codes))
    return image, Segmentation(turned.array, image.geometry, mask.labels, mask.ignore)


def read_images(paths: Sequence[Path], *, channels: Sequence[str] = ()) -> Volume:
    """Return the channels in `paths` as one image on the grid of the first; the others are resampled onto it linearly.

    A grey picture has three equal channels where `channels` are red, green and blue.

    Raises
    ------
    InputError
        Where a file cannot be read, or there are not as many channels as names.
    """
    parts = [read_image(path) for path in paths]
    if len(parts) == 1:
        parts = [as_colours(parts[0], channels)]
    first = parts[0].geometry
    same = [part if part.geometry.same_grid(first) else resample(part, onto=first, order=1) for part in parts]
    array = same[0].array if len(same) == 1 else np.concatenate([part.array for part in same])
    own = tuple(name for part in parts for name in part.channels)
    names = tuple(channels) or (own if len(set(own)) == len(own) else tuple(f"image_{i}" for i in range(len(own))))
    try:
        return Volume(array, first, names)
    except GeometryError as error:
        raise InputError(error.found, expected=error.expected, where=str(paths[0])) from error


def read_image(path: Path) -> Volume:
    """Return the image in a file or in a folder with one series; what it says to do can be done in a data set.

    Raises
    ------
    InputError
        Where it cannot be read as it is: flags that make a series readable for `segment` are none of training.
    """
    try:
        return read_volume(path)
    except InputError as error:
        remedy = _REMEDIES.get(error.code, error.remedy)
        raise InputError(
            error.found, expected=error.expected, where=error.where, remedy=remedy, code=error.code
        ) from error


def colour_channels(cases: Iterable[Case]) -> tuple[str, ...]:
    """Return red, green and blue where cases are pictures, some in colour and some grey; otherwise nothing.

    Of each picture the header is read. A data set has one set of channels: with one picture in colour, all are.
    """
    counts = set()
    for case in cases:
        if len(case.images) > 1 or suffix_of(case.images[0]) not in PICTURE_SUFFIXES:
            return ()
        counts.add(describe(case.images[0]).volumes)
    return COLOURS if counts == {1, len(COLOURS)} else ()


def pixel_on_pixel(mask: _Mask, path: Path, grid: Geometry) -> _Mask:
    """Return a mask that was read from a picture on the grid it was drawn on, where it has as many rows and columns.

    A picture says nothing of where its pixels lie or how large they are: one drawn on an X-ray lies pixel on pixel.
    Masks in other formats, and of other sizes, come as they are.

    Parameters
    ----------
    mask : Segmentation or Volume
        What was read: labels, or object numbers.
    path : Path
        From where.
    grid : Geometry
        Of the image, or of the mask to compare with.
    """
    is_picture = suffix_of(path) in PICTURE_SUFFIXES and mask.geometry.shape == grid.shape
    return replace(mask, geometry=grid) if is_picture else mask


def same_place(mask: Geometry, image: Geometry) -> bool:
    """Tell whether a mask lies voxel on voxel on its image, but for the order of axes and rounding in the header."""
    turned = mask.reoriented(image.axis_codes)
    return turned.same_grid(image, tol_mm=max(1e-2, GRID_TOLERANCE * min(image.spacing_mm)))


def rules_of(rules: RoiRules | None, labels: LabelSet | None) -> RoiRules | None:
    """Return by which rules the structures of a reference are read: those declared, else by the labels' names.

    Examples
    --------
    >>> from medseg.labels import LabelSet
    >>> rules_of(None, LabelSet.from_names({3: "GTV"})).patterns
    (('GTV', 3),)
    """
    if rules is not None or labels is None or not len(labels):
        return rules
    return RoiRules.from_labels(labels)


def content_sha256(case: Case) -> str:
    """Return the hash of a case's id and of the bytes of all its files; names and dates of files play no part.

    Where the reference is DICOM, the rules by which its structures become labels count, too.
    """
    digest = hashlib.sha256(case.id.encode())
    for path in (*case.images, *((case.reference,) if case.reference else ())):
        digest.update(file_sha256(path).encode())
    if case.rules is not None and case.reference is not None and is_dicom(case.reference):
        digest.update(json.dumps(case.rules.to_json()).encode())
    return digest.hexdigest()


def dataset_sha256(cases: Iterable[Case]) -> str:
    """Return one hash over the content of all cases, in their order."""
    return combined_sha256(content_sha256(case) for case in cases)


def combined_sha256(digests: Iterable[str]) -> str:
    """Return one hash over the hashes of cases, in their order."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the hash of a file's bytes, or of all files in a folder in the order of their names.

    Raises
    ------
    InputError
        Where a file cannot be read.
    """
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    try:
        for file in files:
            with file.open("rb") as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
    except OSError as error:
        raise InputError(f"the file cannot be read ({type(error).__name__})", where=str(path)) from error
    return digest.hexdigest()

"""DICOM SEG in: a mask on its own grid or on its image's, empty slices that were left out included."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pydicom

from medseg.errors import InputError, MedsegError
from medseg.io.dicom.cover import Cover
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.seg.frames import frames_of
from medseg.io.dicom.seg.grid import Placing, smallest_grid
from medseg.labels import Code, Label, LabelSet, distinct_color
from medseg.rois import RoiRules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from medseg.geometry import Geometry
    from medseg.io.dicom.seg.frames import Frame
    from medseg.volume import Segmentation


def read_seg(path: Path, *, onto: Geometry | None = None, rules: RoiRules | None = None) -> Segmentation:
    """Read a DICOM SEG of type BINARY, LABELMAP, or FRACTIONAL where it is binary in truth or a threshold is given.

    Parameters
    ----------
    path : Path
        The file.
    onto : Geometry, optional
        The grid to put the mask on, normally that of the series it was made from; the SEG's pixels must be voxels of
        it, in any order of axes. By default the smallest grid that holds all frames; slices between them that were
        left out are empty.
    rules : RoiRules, optional
        Which segment is which label. By default label ids are segment numbers, names are segment labels.

    Raises
    ------
    InputError
        Where the file is no such SEG, segments overlap and the rules do not say what that means, or no segment is
        mapped.
    GeometryError
        Where the frames do not lie on one grid, or not on `onto`.
    """
    try:
        with quiet():
            dataset = pydicom.dcmread(path, force=True)
            return _segmentation(dataset, onto, rules)
    except MedsegError as error:
        raise error.at(path.name) from error
    except Exception as error:  # pydicom raises whatever its parsers raise on damaged bytes
        raise InputError("the file is no DICOM SEG that can be read", where=path.name, code="unreadable") from error


def segment_names(path: Path) -> tuple[str, ...]:
    """Return the names of a SEG's segments, in the order of their numbers; pixels are not read.

    Raises
    ------
    InputError
        Where the file is no SEG.
    """
    try:
        with quiet():
            dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
            return tuple(_segments(dataset).values())
    except Exception as error:  # pydicom raises whatever its parsers raise on damaged bytes
        raise InputError("the file is no DICOM SEG that can be read", where=path.name, code="unreadable") from error


def _segmentation(dataset: Dataset, onto: Geometry | None, rules: RoiRules | None) -> Segmentation:
    names = _segments(dataset)
    if rules is None:
        labels = _labels(dataset)
        rules = RoiRules(labels, tuple((label.name, label.id) for label in labels))
        taken = tuple((n, n) for n in range(len(names)))
    else:
        taken = rules.take(tuple(names.values()))
    grid = smallest_grid(dataset) if onto is None else onto
    placing, cover = Placing(dataset, grid), Cover(grid)
    place = {number: n for n, number in enumerate(names)}
    wanted = {structure for structure, _ in taken}
    for stored in frames_of(dataset):
        frame = _whole(stored, dataset, rules.threshold)
        window = placing.window(frame, cover.numbers_zyx)
        for number, inside in _parts(frame):
            if number not in place:
                raise InputError(f"the segmentation describes no segment {number}", expected="a name for each")
            if window is not None and place[number] in wanted:
                cover.add(place[number], inside, window=window)
    return cover.labelled(rules, tuple(names.values()), taken)


def _whole(frame: Frame, dataset: Dataset, threshold: float | None) -> Frame:
    """Return a frame of 0 and 1 (or segment numbers); a fractional one by threshold, where it is not binary anyway."""
    if str(dataset.SegmentationType) != "FRACTIONAL":
        return frame
    most = int(dataset.get("MaximumFractionalValue") or np.iinfo(np.uint8).max)
    pixels = frame.pixels_yx
    if threshold is None and ((pixels != 0) & (pixels != most)).any():
        raise InputError(
            "the segmentation is FRACTIONAL: its pixels are fractions, not inside or outside",
            remedy="Declare 'threshold: 0.5' in labels.yaml",
            code="fractional",
        )
    inside = pixels == most if threshold is None else pixels >= threshold * most
    return replace(frame, pixels_yx=inside.astype(np.uint8))


def _parts(frame: Frame) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Yield segment numbers and where they are in a frame."""
    if frame.segment is not None:
        yield frame.segment, frame.pixels_yx != 0
        return
    for number in np.unique(frame.pixels_yx).tolist():
        if number:
            yield number, frame.pixels_yx == number


def _segments(dataset: Dataset) -> dict[int, str]:
    """Return the names of the segments by rising number; a label map's background (0) is none."""
    segments = {int(s.SegmentNumber): s for s in dataset.SegmentSequence if int(s.SegmentNumber) > 0}
    return {n: str(segments[n].get("SegmentLabel") or f"segment {n}") for n in sorted(segments)}


def _labels(dataset: Dataset) -> LabelSet:
    """Return what the segments are, each with a name of its own."""
    described = {int(s.SegmentNumber): s for s in dataset.SegmentSequence}
    names = _segments(dataset)
    twice = Counter(names.values())
    return LabelSet(
        tuple(
            Label(
                number,
                name if twice[name] == 1 else f"{name} ({number})",
                _color(described[number]),
                _code(described[number]),
            )
            for number, name in names.items()
        )
    )


def _color(segment: Dataset) -> tuple[int, int, int]:
    from highdicom.color import CIELabColor

    value = segment.get("RecommendedDisplayCIELabValue")
    if value is None or len(value) != 3:
        return distinct_color(int(segment.SegmentNumber) - 1)
    r, g, b = CIELabColor.from_dicom_value(tuple(int(v) for v in value)).to_rgb()
    return int(r), int(g), int(b)


def _code(segment: Dataset) -> Code | None:
    types = segment.get("SegmentedPropertyTypeCodeSequence")
    if not types:
        return None
    value, scheme, meaning = (
        str(types[0].get(k) or "") for k in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
    )
    return Code(scheme, value, meaning[:64]) if value and scheme and meaning and len(value) <= 16 else None

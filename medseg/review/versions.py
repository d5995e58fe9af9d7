"""Versions of a mask: every save is a new file, none is written over; two of them compared on one grid."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import InputError, OutputError
from medseg.io import read_segmentation, write_segmentation
from medseg.io.atomic import PART_PREFIX, atomic_path
from medseg.io.hashing import file_sha256
from medseg.metrics.overlap import confusion_counts
from medseg.resample import resample

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from medseg.geometry import Geometry
    from medseg.labels import LabelSet
    from medseg.volume import Segmentation

SUFFIX = ".nii.gz"
_ATTEMPTS = 1000
_FIELDS = {"number": int, "sha256": str, "parent": int, "who": str, "at": str, "comment": str}


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a case's mask.

    Attributes
    ----------
    number : int
        0 for what is under review, 1 and up for what reviewers saved.
    path : Path
        The mask's file.
    sha256 : str
        Of the file.
    parent : int or None
        The version it was made from.
    who, at, comment : str
        The reviewer, when (ISO 8601, UTC), and what they said; empty for version 0.
    """

    number: int
    path: Path
    sha256: str
    parent: int | None = None
    who: str = ""
    at: str = ""
    comment: str = ""


class Versions:
    """The versions of one case's mask.

    Parameters
    ----------
    folder : Path
        ``review/<case>``; made at the first save.
    predicted : Path
        The mask under review: version 0. It is never touched.
    predicted_sha256 : str
        Its file's hash where it is known already.
    """

    def __init__(self, folder: Path, predicted: Path, *, predicted_sha256: str = "") -> None:
        self._folder = folder
        self._predicted = predicted
        self._predicted_sha256 = predicted_sha256

    def all(self) -> tuple[Version, ...]:
        """Return the versions by rising number; one whose mask a crash kept from being written is none."""
        return (self._first(), *(v for v in map(self._saved, self._numbers()) if v is not None))

    def latest(self) -> Version:
        """Return the newest version."""
        return next((v for v in map(self._saved, reversed(self._numbers())) if v is not None), None) or self._first()

    def get(self, number: int) -> Version:
        """Return one version.

        Raises
        ------
        InputError
            Where there is none of this number.
        """
        version = self._first() if number == 0 else self._saved(number)
        if version is None:
            known = ", ".join(str(v.number) for v in self.all())
            raise InputError(f"there is no version {number} of the mask", expected=f"one of {known}", where=self._name)
        return version

    def read(self, number: int, *, labels: LabelSet | None = None, onto: Geometry | None = None) -> Segmentation:
        """Return a version's mask.

        Parameters
        ----------
        number : int
            0 for the mask under review.
        labels : LabelSet, optional
            What its values mean.
        onto : Geometry, optional
            The image's grid, for masks in DICOM.

        Raises
        ------
        InputError
            Where the version is not there, or a saved one is not what was written.
        """
        version = self.get(number)
        if number and file_sha256(version.path) != version.sha256:
            raise InputError(
                f"version {number} of the mask is not what was saved", where=self._name, remedy="Use another version"
            )
        return read_segmentation(version.path, labels=labels, onto=onto if number == 0 else None)

    def save(self, mask: Segmentation, *, who: str, parent: int, comment: str = "") -> Version:
        """Write a mask as the next version and return it; the file appears whole and checked, under its own number.

        Two reviewers may save at once: the number is taken by making ``v0001.json``, which only one of them can.

        Raises
        ------
        OutputError
            Where it cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the folder cannot be made ({error.strerror})", where=str(self._folder)) from error
        written = self._folder / f"{PART_PREFIX}{secrets.token_hex(6)}{SUFFIX}"
        try:
            write_segmentation(mask, written)
            facts: dict[str, Any] = {
                "sha256": file_sha256(written),
                "parent": parent,
                "who": who,
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "comment": comment,
            }
            number = self._reserve(facts)
            path = self._mask_path(number)
            with atomic_path(path, suffix=SUFFIX) as whole:
                written.replace(whole)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise OutputError(f"the version could not be written ({reason})", where=self._name) from error
        finally:
            written.unlink(missing_ok=True)
        return Version(number, path, **facts)

    @property
    def _name(self) -> str:
        return self._folder.name

    def _first(self) -> Version:
        if not self._predicted_sha256:
            whole = self._predicted.is_file()  # a folder of DICOM files has no hash of its own
            self._predicted_sha256 = file_sha256(self._predicted) if whole else ""
        return Version(0, self._predicted, self._predicted_sha256)

    def _numbers(self) -> list[int]:
        names = [path.name[1:-5] for path in self._folder.glob("v[0-9]*.json")]
        return sorted(int(name) for name in names if name.isdecimal())

    def _saved(self, number: int) -> Version | None:
        path = self._mask_path(number)
        record = self._folder / f"v{number:04d}.json"
        if not path.is_file() or not record.is_file():
            return None
        facts = _facts(record)
        return Version(number, path, **{k: v for k, v in facts.items() if k != "number"})

    def _mask_path(self, number: int) -> Path:
        return self._folder / f"v{number:04d}{SUFFIX}"

    def _reserve(self, facts: dict[str, Any]) -> int:
        """Take the next free number by making its record, which fails where another has made it."""
        first = max(self._numbers(), default=0) + 1
        for number in range(first, first + _ATTEMPTS):
            text = json.dumps({"number": number, **facts}, indent=1, ensure_ascii=False) + "\n"
            try:
                with (self._folder / f"v{number:04d}.json").open("x", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
            except FileExistsError:
                continue
            return number
        raise OutputError("no number is free for the version", where=self._name)


def _facts(record: Path) -> dict[str, Any]:
    try:
        document = json.loads(record.read_text(encoding="utf-8"))
        if not isinstance(document, dict) or {k: type(v) for k, v in document.items()} != _FIELDS:
            raise ValueError
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            "the record of a version cannot be read", where=str(record), remedy="Take it and its mask out of the folder"
        ) from error
    return document


@dataclass(frozen=True, eq=False)
class Comparison:
    """How two masks differ.

    Attributes
    ----------
    dice : dict
        By label name; ``None`` where neither mask has the label.
    voxels_differing : int
        Voxels whose label is not the same.
    difference_zyx : (Z, Y, X) uint8
        0 where both agree, 1 where only the second has a label, 2 where only the first has, 3 where both have another.
    geometry : Geometry
        The grid of the difference: the first mask's.
    """

    dice: dict[str, float | None]
    voxels_differing: int
    difference_zyx: NDArray[np.uint8]
    geometry: Geometry

    def turned(self) -> Comparison:
        """Return the same with first and second exchanged; the grid stays the first mask's.

        Examples
        --------
        >>> from medseg.geometry import Geometry
        >>> grid = Geometry((1, 1, 4), np.eye(4))
        >>> Comparison({}, 3, np.array([[[0, 1, 2, 3]]], np.uint8), grid).turned().difference_zyx.ravel().tolist()
        [0, 2, 1, 3]
        """
        swapped = np.array([0, REMOVED, ADDED, CHANGED], np.uint8)[self.difference_zyx]
        return Comparison(self.dice, self.voxels_differing, swapped, self.geometry)


ADDED, REMOVED, CHANGED = 1, 2, 3


def compare(first: Segmentation, second: Segmentation) -> Comparison:
    """Return how two masks differ, on the grid of the first; the second is taken onto it where it lies on another.

    Labels are paired by name, so that masks of two models may number them differently.

    Parameters
    ----------
    first, second : Segmentation
        Such as version 0 and version 1.

    Examples
    --------
    >>> from medseg.geometry import Geometry
    >>> from medseg.labels import LabelSet
    >>> from medseg.volume import Segmentation
    >>> labels, grid = LabelSet.from_names({1: "liver"}), Geometry((1, 1, 4), np.eye(4))
    >>> a, b = (Segmentation(np.array([[row]], np.uint8), grid, labels) for row in ([1, 1, 0, 0], [0, 1, 1, 0]))
    >>> result = compare(a, b)
    >>> result.dice, result.voxels_differing, result.difference_zyx.ravel().tolist()
    ({'liver': 0.5}, 2, [2, 0, 1, 0])
    """
    other = second
    if not first.geometry.same_grid(second.geometry):
        other = resample(second, onto=first.geometry)
    left, right = first.array, _as_in(first.labels, other)
    names = tuple(dict.fromkeys((*first.labels.names, *second.labels.names)))
    ids = _ids(first.labels, second.labels)
    differs = left != right
    difference = np.zeros(left.shape, np.uint8)
    difference[differs & (left == 0)] = ADDED
    difference[differs & (right == 0)] = REMOVED
    difference[differs & (left != 0) & (right != 0)] = CHANGED
    dice = {name: confusion_counts(left == ids[name], right == ids[name]).dice for name in names}
    return Comparison(dice, int(np.count_nonzero(differs)), difference, first.geometry)


def _ids(first: LabelSet, second: LabelSet) -> dict[str, int]:
    """Return an id for every name: the first set's, and free ones for names that only the second has."""
    ids = {label.name: label.id for label in first}
    free = max((*first.ids, *second.ids, 0)) + 1
    for label in second:
        if label.name not in ids:
            ids[label.name], free = free, free + 1
    return ids


def _as_in(labels: LabelSet, mask: Segmentation) -> NDArray[Any]:
    """Return a mask's voxels with the ids that `labels` has for its names."""
    if mask.labels.names == labels.names and mask.labels.ids == labels.ids:
        return mask.array
    ids = _ids(labels, mask.labels)
    table = np.zeros(int(mask.array.max()) + 1, np.uint32)
    for label in mask.labels:
        if label.id < len(table):
            table[label.id] = ids[label.name]
    ids_zyx: NDArray[Any] = table[mask.array]
    return ids_zyx

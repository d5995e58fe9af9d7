"""Prepared cases on disk: every case brought to the working grid once, then read patch by patch from memory maps.

An entry's name holds a hash of all that decides its content: the bytes of the case's files, the plan's preprocessing
and labels, and the version of this file's format. A second run with the same content and plan finds its entries;
another plan makes its own beside them. Entries appear by renaming a finished folder, and are verified when found.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.datasets import content_sha256, for_each, read_case
from medseg.errors import InputError, MedsegError, OutputError
from medseg.io.hashing import file_sha256
from medseg.labels import IGNORED
from medseg.preprocess import prepare, prepare_mask
from medseg.progress import ignore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from medseg.case import Case
    from medseg.plan import Plan
    from medseg.progress import Progress

SCHEMA = 1
SAMPLES = 2000  # foreground voxels remembered for each class of a case
IMAGE, LABEL, FOREGROUND, ENTRY = "image.npy", "label.npy", "foreground.npy", "entry.json"
_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, slots=True)
class PreparedCase:
    """One case on the working grid, on disk. Arrays are opened when asked for: a thousand cases hold no file open.

    Attributes
    ----------
    id : str
        The case's id.
    folder : Path
        Where its arrays lie.
    shape : tuple of int
        (Z, Y, X) of the working grid.
    spans : dict
        Rows of the foreground table each class has.
    """

    id: str
    folder: Path
    shape: tuple[int, int, int]
    spans: dict[int, tuple[int, int]]

    @property
    def image_czyx(self) -> NDArray[np.float32]:
        """The normalised image, float32, memory-mapped and read-only."""
        return _mapped(self.folder / IMAGE)

    @property
    def label_zyx(self) -> NDArray[Any]:
        """The class of every voxel, memory-mapped: 0 for background, 1 and up for the labels by rising id.

        Where the plan has an id to be ignored the type is int16, and voxels of that id are -1.
        """
        return _mapped(self.folder / LABEL)

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes that occur, without background."""
        return tuple(self.spans)

    @property
    def foreground(self) -> dict[int, NDArray[np.int32]]:
        """Indices (n, 3) of voxels of each class that occurs: a random part of them where they are many."""
        table = _mapped(self.folder / FOREGROUND)
        return {label: table[start:stop] for label, (start, stop) in self.spans.items()}


@dataclass(frozen=True, slots=True)
class PreparedStore:
    """Prepared cases, in the order they were asked for."""

    cases: tuple[PreparedCase, ...]

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.cases)

    def __iter__(self) -> Iterator[PreparedCase]:
        """Iterate over the cases."""
        return iter(self.cases)


def prepare_dataset(cases: Sequence[Case], plan: Plan, folder: Path, *, progress: Progress = ignore) -> PreparedStore:
    """Bring all cases to the working grid, or find them there.

    Parameters
    ----------
    cases : sequence of Case
        Each with a reference mask.
    plan : Plan
        Its preprocessing, channels and labels decide what is stored.
    folder : Path
        Where entries lie; made where it is missing.
    progress : Progress
        Told after every case.

    Raises
    ------
    InputError
        Where a case cannot be read or does not fit the plan.
    OutputError
        Where the disk is full or may not be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _failed(error, folder) from error
    return PreparedStore(
        for_each(lambda case: _prepared(case, plan, folder), cases, stage="prepare", progress=progress)
    )


def _prepared(case: Case, plan: Plan, folder: Path) -> PreparedCase:
    """Return the case's entry; one that is missing or damaged is made."""
    key = _key(case, plan)
    place = folder / f"{case.id}-{key[:16]}"
    found = _found(case.id, place, key)
    if found is not None:
        return found
    try:
        with tempfile.TemporaryDirectory(prefix=".making-", dir=folder, ignore_cleanup_errors=True) as scratch:
            made = Path(scratch) / place.name
            made.mkdir()
            _make(case, plan, made, key)
            if _found(case.id, place, key) is None:  # else another process was faster
                shutil.rmtree(place, ignore_errors=True)
                made.rename(place)
    except OSError as error:
        raise _failed(error, folder) from error
    finished = _found(case.id, place, key)
    if finished is None:
        raise OutputError("the prepared case did not read back as written", where=str(place), remedy="Check the disk")
    return finished


def _make(case: Case, plan: Plan, place: Path, key: str) -> None:
    """Write a case's arrays and, last, what they are."""
    try:
        decided = replace(case, ignore=plan.ignore_label)
        image, mask = read_case(decided, labels=plan.labels, channels=plan.channels)
        working = prepare(image, plan)
        image_czyx = _finite(working.array)
        on_grid = prepare_mask(mask, plan, onto=working.geometry)
        label_zyx = _classes(on_grid.array, plan.labels.ids, ignore=plan.ignore_label)
    except MedsegError as error:
        raise _named(error, case.id) from error
    table, spans = _foreground(label_zyx, seed=int(key[:16], 16))
    for name, array in ((IMAGE, image_czyx), (LABEL, label_zyx), (FOREGROUND, table)):
        np.save(place / name, array, allow_pickle=False)
    entry = {
        "schema": SCHEMA,
        "key": key,
        "shape": list(label_zyx.shape),
        "spans": {str(label): span for label, span in spans.items()},
        "sha256": {name: file_sha256(place / name) for name in (IMAGE, LABEL, FOREGROUND)},
    }
    (place / ENTRY).write_text(json.dumps(entry), encoding="utf-8")


def _finite(image_czyx: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the image, unless normalisation left a value that no network can learn from."""
    if not all(np.isfinite(image_zyx).all() for image_zyx in image_czyx):
        raise InputError(
            "the normalised image holds voxels that are not finite numbers",
            expected="grey values that fit into float32",
            code="non-finite",
        )
    return image_czyx


def _named(error: MedsegError, case_id: str) -> MedsegError:
    """Return the error with the case named, and with what can be done in a data set."""
    if error.code != "non-finite":
        return error.at(case_id)
    remedy = "Replace NaN and infinite voxels, or take the case out"
    return InputError(error.found, expected=error.expected, where=case_id, remedy=remedy, code=error.code)


def _found(case_id: str, place: Path, key: str) -> PreparedCase | None:
    """Return a stored entry, or None where there is none that is whole."""
    try:
        entry = json.loads((place / ENTRY).read_text(encoding="utf-8"))
        if entry["key"] != key or any(file_sha256(place / name) != digest for name, digest in entry["sha256"].items()):
            return None
        z, y, x = entry["shape"]
        spans = {int(label): (int(start), int(stop)) for label, (start, stop) in entry["spans"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or not as it was written
        return None
    return PreparedCase(case_id, place, (z, y, x), spans)


def _key(case: Case, plan: Plan) -> str:
    """Return the hash of everything that decides an entry."""
    document = {
        "schema": SCHEMA,
        "content": content_sha256(case),
        "preprocess": plan.preprocess.model_dump(mode="json"),
        "slice_axis": plan.slice_axis,
        "channels": plan.channels,
        "labels": plan.labels.ids,
        "ignore": plan.ignore_label,
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _classes(ids_zyx: NDArray[Any], ids: Sequence[int], *, ignore: int | None) -> NDArray[Any]:
    """Return classes 0, 1, 2 ... for the label ids 0, `ids` rising, and `IGNORED` for the id to be ignored."""
    kind: type[np.integer[Any]] = np.uint8 if len(ids) < 256 else np.uint16
    table = np.zeros(max((*ids, ignore or 0)) + 1, dtype=kind if ignore is None else np.int16)
    table[list(ids)] = np.arange(1, len(ids) + 1)
    if ignore is not None:
        table[ignore] = IGNORED
    return np.ascontiguousarray(table[ids_zyx])


def _foreground(label_zyx: NDArray[Any], *, seed: int) -> tuple[NDArray[np.int32], dict[int, tuple[int, int]]]:
    """Return indices (n, 3) of foreground voxels, class after class, and the rows each class has."""
    flat = np.flatnonzero(label_zyx > 0)
    values = label_zyx.ravel()[flat]
    generator = np.random.default_rng(seed)
    rows: list[NDArray[np.int64]] = []
    spans: dict[int, tuple[int, int]] = {}
    start = 0
    for label in np.unique(values):
        voxels = flat[values == label]
        if len(voxels) > SAMPLES:
            voxels = np.sort(generator.choice(voxels, SAMPLES, replace=False))
        spans[int(label)] = (start, start + len(voxels))
        start += len(voxels)
        rows.append(np.stack(np.unravel_index(voxels, label_zyx.shape), axis=1))
    table = np.concatenate(rows) if rows else np.zeros((0, 3), dtype=np.int64)
    return table.astype(np.int32), spans


def _mapped(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _failed(error: OSError, folder: Path) -> OutputError:
    if error.errno in _FULL:
        return OutputError(
            "the disk is full", where=str(folder), remedy="Free space, or choose another run folder: nothing was lost"
        )
    return OutputError(f"the prepared cases cannot be written ({type(error).__name__})", where=str(folder))

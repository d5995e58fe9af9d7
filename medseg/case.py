"""Training cases and data sets: names and paths, no voxels."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import InputError, PlanError

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.labels import LabelSet
    from medseg.rois import RoiRules

DEFAULT_FOLDS = 5
MAX_ID_LENGTH = 100
FILE_SUFFIXES = (
    ".nii.gz",
    ".nii",
    ".nrrd",
    ".nhdr",
    ".mha",
    ".mhd",
    ".png",
    ".tif",
    ".tiff",
    ".jpg",
    ".jpeg",
    ".bmp",
    ".dcm",
)
_CHANNEL = re.compile(r"_(\d{4})$")  # nnU-Net's mark of a channel at the end of a file's stem
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def stem_of(file_name: str) -> str:
    """Return an image file's name without its suffix; other names as they are.

    Examples
    --------
    >>> stem_of("liver_07.nii.gz"), stem_of("chest.scan.png"), stem_of("series-1.2")
    ('liver_07', 'chest.scan', 'series-1.2')
    """
    lowered = file_name.lower()
    suffix = next((s for s in FILE_SUFFIXES if lowered.endswith(s) and len(s) < len(file_name)), "")
    return file_name[: len(file_name) - len(suffix)]


def split_channel(stem: str) -> tuple[str, int | None]:
    """Part a stem into its key and nnU-Net's channel number, where it carries one.

    Examples
    --------
    >>> split_channel("liver_07_0001"), split_channel("liver_07")
    (('liver_07', 1), ('liver_07', None))
    """
    channel = _CHANNEL.search(stem)
    if channel is None or channel.start() == 0:
        return stem, None
    return stem[: channel.start()], int(channel.group(1))


def case_name(file_name: str) -> str:
    """Return what a case is called by its first file: the name without suffix and without nnU-Net's ``_0000``.

    Examples
    --------
    >>> case_name("liver_07_0000.nii.gz"), case_name("frame_0012.png")
    ('liver_07', 'frame_0012')
    """
    stem = stem_of(file_name)
    return stem.removesuffix("_0000") or stem


def safe_id(name: str, relative_path: str) -> str:
    """Return `name` as a case id that is safe on every file system.

    Letters, digits, dot, underscore and hyphen, at most 100 characters. Where anything had to be replaced, a hyphen and
    eight hex digits of the hash of `relative_path` keep different names apart.

    Examples
    --------
    >>> safe_id("hippocampus_003", "a/hippocampus_003.nii.gz")
    'hippocampus_003'
    >>> safe_id("Müller 1", "a/Müller 1.nii.gz")
    'M_ller_1-49f52f55'
    """
    kept = _UNSAFE.sub("_", name)
    if kept == name and len(name) <= MAX_ID_LENGTH and name.strip("."):
        return name
    mark = "-" + hashlib.sha256(relative_path.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return kept.strip(".")[: MAX_ID_LENGTH - len(mark)] + mark


@dataclass(frozen=True, slots=True)
class Case:
    """One scan: its id, where its channels lie, its reference mask and the patient it belongs to.

    Parameters
    ----------
    id : str
        Unique in the data set and safe as a folder name.
    images : tuple of Path
        One file or DICOM folder per channel, in the data set's channel order; one 4-D file may hold all channels.
    reference : Path or None
        The mask drawn by a person, where there is one.
    group : str
        Cases of one patient share a group; the id where nothing else is known.
    rules : RoiRules or None
        Which structure of a reference in DICOM is which label.
    ignore : int or None
        The value of the reference's voxels that nobody decided on.
    """

    id: str
    images: tuple[Path, ...]
    reference: Path | None = None
    group: str = ""
    rules: RoiRules | None = None
    ignore: int | None = None

    def __post_init__(self) -> None:
        """Refuse a case without image, or whose id is no plain name; default the group to the id."""
        if not self.id or not self.images:
            raise InputError(f"case {self.id!r} has no id or no image")
        if self.id in (".", "..") or any(c in "/\\:" or not c.isprintable() for c in self.id):
            raise InputError(f"the case id {self.id!r} is no file name", remedy="Use letters, digits, hyphens and dots")
        if not self.group:
            object.__setattr__(self, "group", self.id)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Cases that belong together, what their masks mean, and what their channels are.

    Parameters
    ----------
    name : str
        For people and the model's card.
    cases : tuple of Case
        At least one; ids are unique.
    labels : LabelSet
        What the masks' values mean.
    channels : tuple of str
        Modality or name of each channel, such as ``("CT",)``; empty where the layout does not tell.
    root : Path
        The folder the data set was found in.
    splits : tuple of tuple of str
        Validation ids per fold where the data set brings its own split; empty otherwise.
    ignore : int or None
        The value of the masks' voxels that nobody decided on: nothing is learned from them, nothing scored on them.
    """

    name: str
    cases: tuple[Case, ...]
    labels: LabelSet
    channels: tuple[str, ...] = ()
    root: Path = field(default_factory=Path)
    splits: tuple[tuple[str, ...], ...] = ()
    ignore: int | None = None

    def __post_init__(self) -> None:
        """Refuse an empty data set and ids that occur twice; order cases by id."""
        object.__setattr__(self, "cases", tuple(sorted(self.cases, key=lambda case: case.id)))
        ids = [case.id for case in self.cases]
        twice = sorted({i for i in ids if ids.count(i) > 1}) if len(set(ids)) != len(ids) else []
        if not ids or twice:
            found = f"the case id {twice[0]} occurs twice" if twice else "the data set has no case"
            raise InputError(found, where=str(self.root))

    @property
    def patients(self) -> int:
        """The number of patients: of groups of cases."""
        return len({case.group for case in self.cases})

    def split(
        self, fold: int, *, n_folds: int = DEFAULT_FOLDS, seed: int = 12345
    ) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
        """Return the training and the validation cases of one fold; a patient is never on both sides.

        Patients are ordered by a hash of `seed` and their name and dealt out in turn, so the split depends on
        nothing but the names, and every machine finds the same one.

        Parameters
        ----------
        fold : int
            0 to ``n_folds - 1``.
        n_folds : int
            Number of folds; at least two and at most the number of patients.
        seed : int
            Another seed gives another split.

        Raises
        ------
        PlanError
            Where the fold does not exist.
        """
        if self.splits:
            return self._own_split(fold)
        groups = sorted({case.group for case in self.cases}, key=lambda group: _rank(group, seed))
        if not 2 <= n_folds <= len(groups):
            raise PlanError(
                f"{len(groups)} patient{'s' * (len(groups) != 1)} cannot be parted into {n_folds} folds",
                remedy="Add patients or use fewer folds; cases of one group or one DICOM study are one patient",
            )
        if not 0 <= fold < n_folds:
            raise PlanError(f"fold {fold} does not exist", expected=f"0 to {n_folds - 1}")
        held_out = {str(group) for group in np.array(groups, dtype=object)[fold::n_folds]}
        return self._parted(lambda case: case.group in held_out)

    def _own_split(self, fold: int) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
        if not 0 <= fold < len(self.splits):
            raise PlanError(
                f"fold {fold} does not exist", expected=f"0 to {len(self.splits) - 1}, as the data set's own split has"
            )
        held_out = set(self.splits[fold])
        training, validation = self._parted(lambda case: case.id in held_out)
        if not training or not validation:
            raise PlanError(
                f"fold {fold} of the data set's own split leaves no case to train or to validate on",
                remedy="Correct the split file",
            )
        shared = {case.group for case in training} & {case.group for case in validation}
        if shared:
            raise PlanError(
                "the data set's own split has cases of one patient on both sides", remedy="Correct the split file"
            )
        return training, validation

    def _parted(self, is_held_out: Callable[[Case], bool]) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
        training = tuple(case for case in self.cases if not is_held_out(case))
        return training, tuple(case for case in self.cases if is_held_out(case))


def _rank(group: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{group}".encode()).hexdigest()

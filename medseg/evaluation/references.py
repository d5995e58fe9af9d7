"""The masks to score against, read as training reads them: contours and segments on the prediction's grid, by rules."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.case import Case
from medseg.datasets import pixel_on_pixel, read_label_file
from medseg.errors import MedsegError
from medseg.evaluation.undecided import Undecided
from medseg.io import is_dicom, read_geometry, read_segmentation, structure_names
from medseg.rois import RoiRules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.geometry import Geometry
    from medseg.labels import LabelSet
    from medseg.volume import Segmentation

_SHOWN = 6


class References:
    """References with the rules by which their structures are labels.

    The rules are those of a case of a data set; else those of a ``labels.yaml`` in the folder of the references or
    beside it; else a structure is the label of its name. They speak of SEG and RTSTRUCT alone. Which value of a mask is
    to be ignored is for `medseg.evaluation.undecided.Undecided` to say.

    Parameters
    ----------
    given : Path or mapping of id to Path or Case
        A folder of masks, one mask, or the masks by id.
    names : LabelSet
        What the predictions call their labels; empty where they do not say.
    """

    def __init__(self, given: Path | Mapping[str, Path] | Mapping[str, Case], names: LabelSet) -> None:
        self._given, self._names = given, names
        self._undecided = Undecided(given, names.ids)
        self._left_out: dict[str, None] = {}
        self._renamed: dict[str, None] = {}

    @property
    def places(self) -> Path | dict[str, Path]:
        """The folder, the file, or the files by id."""
        if isinstance(self._given, Path):
            return self._given
        files = {i: one.reference if isinstance(one, Case) else one for i, one in self._given.items()}
        return {i: path for i, path in files.items() if path is not None}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was met and left out."""
        notes = []
        if self._left_out:
            names = _some([repr(name) for name in self._left_out])
            notes.append(f"Structures of the references that are for no label were left out: {names}.")
        if self._renamed:
            names = _some(list(self._renamed))
            notes.append(f"Labels have other names in the predictions than in the references' labels.yaml: {names}.")
        return (*notes, *self._undecided.notes)

    def read_pair(self, case: str, prediction: Path, reference: Path) -> tuple[Segmentation, Segmentation]:
        """Return a prediction and its reference; one that has no voxels of its own on the grid of the other.

        Raises
        ------
        MedsegError
            Where one of them cannot be read.
        """
        own = RoiRules.from_labels(self._names) if len(self._names) else None
        if is_dicom(prediction) and not is_dicom(reference):
            true = self._read_mask(case, reference)
            predicted = _read(prediction, onto=true.geometry, rules=own)
            return predicted, pixel_on_pixel(true, reference, predicted.geometry)
        grid = self._grid_of(case) if is_dicom(prediction) else None
        predicted = _read(prediction, onto=grid, rules=own)
        true = self.read(case, reference, onto=predicted)
        placed = pixel_on_pixel(predicted, prediction, true.geometry)
        return placed, pixel_on_pixel(true, reference, placed.geometry)

    def read(self, case: str, path: Path, *, onto: Segmentation | None = None) -> Segmentation:
        """Return a reference; contours need the mask whose grid they are drawn `onto`, or a case with its image.

        Raises
        ------
        MedsegError
            Where it cannot be read.
        """
        if not is_dicom(path):
            return self._read_mask(case, path)
        rules, image = self._rules_of(case), self._image_of(case)
        try:
            names = structure_names(path) or ()
            if rules is not None:
                self._left_out.update(dict.fromkeys(rules.assign(names).unmapped))
                self._note_names(rules.labels)
            grid = self._grid_of(case) if onto is None else onto.geometry
            return read_segmentation(path, onto=grid, rules=rules, image=image)
        except MedsegError as error:
            raise error.at(case) from error

    def _read_mask(self, case: str, path: Path) -> Segmentation:
        mask = _read(path, ignore=self._undecided.value_in(case, path))
        self._undecided.left_out(case, path, mask.array)
        return mask

    def _image_of(self, case: str) -> Path | None:
        one = None if isinstance(self._given, Path) else self._given.get(case)
        return one.images[0] if isinstance(one, Case) else None

    def _grid_of(self, case: str) -> Geometry | None:
        image = self._image_of(case)
        return None if image is None else read_geometry(image)

    def _note_names(self, labels: LabelSet) -> None:
        ours = {label.id: label.name for label in self._names}
        for label in labels:
            name = ours.get(label.id, label.name)
            if name.casefold() != label.name.casefold():
                self._renamed[f"{label.id} ({name!r} there, {label.name!r} here)"] = None

    def _rules_of(self, case: str) -> RoiRules | None:
        one = None if isinstance(self._given, Path) else self._given.get(case)
        if isinstance(one, Case) and one.rules is not None:
            return one.rules
        if self._declared is not None:
            return self._declared
        return RoiRules.from_labels(self._names) if len(self._names) else None

    @cached_property
    def _declared(self) -> RoiRules | None:
        if not isinstance(self._given, Path):
            return None
        inside = read_label_file(self._given) if self._given.is_dir() else None
        return inside or read_label_file(self._given.parent)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _read(
    path: Path, *, onto: Geometry | None = None, rules: RoiRules | None = None, ignore: int | None = None
) -> Segmentation:
    try:
        return read_segmentation(path, onto=onto, rules=rules, ignore=ignore)
    except MedsegError as error:
        raise error.at(str(path)) from error

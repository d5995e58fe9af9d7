"""The lint of SEG and RTSTRUCT references: which structures are for which label, and what their masks lack."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from medseg.datasets.findings import DatasetFinding, finding
from medseg.datasets.labelling import rules_by_names
from medseg.datasets.listing import relative
from medseg.errors import MedsegError
from medseg.io import read_segmentation, structure_names, structure_remarks
from medseg.volume import values_in

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.case import Case
    from medseg.geometry import Geometry
    from medseg.rois import Assignment, RoiRules
    from medseg.volume import Segmentation

_OF_STRUCTURES = frozenset({"overlap", "ambiguous-roi", "no-mapped-roi", "other-frame", "fractional"})
_ABSENT = "Right if the structure is absent in this case; else draw it, or take the case out"
_REMEDIES = {
    "empty-roi": _ABSENT,
    "not-closed": "Right if they are marks; else close the contours in the program they were drawn with",
    "sparse-contours": "Interpolate the contours in the program they were drawn with, or take the case out",
    "off-slice": "Check that the image is the series it was drawn on: each contour goes to the nearest slice",
    "other-series": "Name the series it was drawn on, or make sure that the two are in register",
}


class Structures(NamedTuple):
    """A reference's mask on its image (``None`` where there is none), the names in it, and what there is to say."""

    mask: Segmentation | None
    names: tuple[str, ...]
    findings: tuple[DatasetFinding, ...]


def examine_structures(
    case: Case, path: Path, root: Path, *, onto: Geometry | None, rules: RoiRules | None
) -> Structures:
    """Read a SEG or RTSTRUCT as training does, and say which of its structures are for nothing.

    Parameters
    ----------
    case : Case
        Whose reference it is.
    path : Path
        The reference.
    root : Path
        The data set's folder.
    onto : Geometry or None
        The grid of the image; ``None`` where the image is at fault, which is said elsewhere.
    rules : RoiRules or None
        Which structure is which label; by default each is the label of its name.
    """
    file = relative(path, root)
    names: tuple[str, ...] = ()
    findings: list[DatasetFinding] = []
    try:
        names = structure_names(path) or ()
        rules = rules or rules_by_names(names)
        findings += _unassigned(rules.assign(names), file, case=case.id)
        if onto is None:
            return Structures(None, names, tuple(findings))
        mask = read_segmentation(path, onto=onto, rules=rules, image=case.images[0])
        findings += [
            finding(r.code, f"in {file}, {r.message}", _REMEDIES[r.code], case=case.id, file=file)
            for r in structure_remarks(path, onto=onto, rules=rules, image=case.images[0])
        ]
        if not any(found.code == "empty-roi" for found in findings):
            findings += _without_voxels(mask, rules, names, file=file, case=case.id)
        return Structures(mask, names, tuple(findings))
    except MedsegError as error:
        code = error.code if error.code in _OF_STRUCTURES else "unreadable"
        remedy = error.remedy or "Correct the reference, or take the case out"
        fault = finding(code, f"{file} cannot be used: {error.found}", remedy, case=case.id, file=file)
        return Structures(None, names, (*findings, fault))


def _without_voxels(
    mask: Segmentation, rules: RoiRules, names: tuple[str, ...], *, file: str, case: str
) -> list[DatasetFinding]:
    """Return the labels that have structures but no voxel; where no label has any, the mask is empty, which is said."""
    present = set(values_in(mask.array)) - {0}
    if rules.regions or not present:
        return []
    drawn = {rules.patterns[rule][1] for _, rule in rules.assign(names).taken}
    return [
        finding(
            "empty-roi", f"in {file}, no voxel is of the label {rules.labels[i].name!r}", _ABSENT, case=case, file=file
        )
        for i in sorted(drawn - present)
    ]


def _unassigned(assigned: Assignment, file: str, *, case: str) -> list[DatasetFinding]:
    unmapped = "Map it to a label in labels.yaml, or to 0 to leave it out knowingly"
    missing = "Right if the structure is absent in this case; else add the name it has here to labels.yaml"
    return [
        *(
            finding("unmapped-roi", f"the structure {name!r} of {file} is for no label", unmapped, case=case, file=file)
            for name in dict.fromkeys(assigned.unmapped)
        ),
        *(
            finding("missing-roi", f"{file} holds no structure for {name!r}", missing, case=case, file=file)
            for name in assigned.missing
        ),
    ]

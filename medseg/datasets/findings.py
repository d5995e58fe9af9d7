"""What can be wrong with a data set: one record a fact, with the file it is about and the way out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

Severity = Literal["error", "warning", "note"]

# Every code a finding may carry. `error`: training is refused until it is put right.
CODES: dict[str, Severity] = {
    "no-case": "error",
    "image-without-mask": "error",
    "mask-without-image": "error",
    "missing-file": "error",
    "missing-channel": "error",
    "ambiguous-pair": "error",
    "same-id": "error",
    "unsafe-path": "error",
    "bad-entry": "error",
    "unreadable": "error",
    "non-finite": "error",
    "grid-mismatch": "error",
    "channel-count": "error",
    "mask-values": "error",
    "unknown-label": "error",
    "mixed-references": "error",
    "no-mapped-roi": "error",
    "ambiguous-roi": "error",
    "overlap": "error",
    "fractional": "error",
    "other-frame": "error",
    "missing-roi": "warning",
    "empty-roi": "warning",
    "sparse-contours": "warning",
    "off-slice": "warning",
    "other-series": "warning",
    "split-patient": "warning",
    "mixed-modality": "warning",
    "empty-mask": "warning",
    "constant-image": "warning",
    "label-never-used": "warning",
    "channel-grid": "warning",
    "spacing-outlier": "warning",
    "size-outlier": "warning",
    "duplicate-image": "warning",
    "unlisted-file": "warning",
    "only-ignored": "warning",
    "unnamed-labels": "note",
    "unnamed-channels": "note",
    "mixed-orientation": "note",
    "float-mask": "note",
    "ignored-voxels": "note",
    "mixed-colour": "note",
    "unmasked-image": "note",
    "unmapped-roi": "note",
    "not-closed": "note",
    "one-patient": "note",
    "foreign-file": "note",
    "unread-column": "note",
}


@dataclass(frozen=True, slots=True)
class DatasetFinding:
    """One fact about a data set.

    Attributes
    ----------
    code : str
        One of `CODES`.
    severity : {"error", "warning", "note"}
        An error keeps the data set from training.
    case : str
        Id of the case; empty where the fact is about the whole.
    file : str
        The file, relative to the data set; empty where the fact is about the whole.
    message : str
        What was found, as a sentence.
    remedy : str
        What to do about it, as a sentence.
    """

    code: str
    severity: Severity
    case: str
    file: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """What `check_dataset` found.

    Attributes
    ----------
    path : Path
        The data set as it was named.
    layout : {"decathlon", "nnunet", "folders", "voc", "table"}
        How its files are arranged.
    cases : int
        Images that have their mask.
    findings : tuple of DatasetFinding
        Errors first, then warnings, then notes.
    """

    path: Path
    layout: str
    cases: int
    findings: tuple[DatasetFinding, ...]

    @property
    def has_errors(self) -> bool:
        """Whether anything keeps the data set from training."""
        return any(finding.severity == "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the document `medseg check --json` prints."""
        return {
            "path": str(self.path),
            "layout": self.layout,
            "cases": self.cases,
            "findings": [asdict(finding) for finding in self.findings],
        }


def finding(code: str, message: str, remedy: str, *, case: str = "", file: str = "") -> DatasetFinding:
    """Return a finding with the severity its code has."""
    return DatasetFinding(code, CODES[code], case, file, message, remedy)

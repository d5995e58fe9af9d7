"""manifest.json: every series or file found, and the word it ended in."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from medseg import __version__
from medseg.io.atomic import write_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Status = Literal["done", "skipped", "refused", "failed", "ignored"]
STATUSES: tuple[Status, ...] = ("done", "skipped", "refused", "failed", "ignored")
NAME = "manifest.json"


@dataclass(frozen=True, slots=True)
class CaseRecord:
    """One entry of the manifest; all values are plain.

    Attributes
    ----------
    id, status, reason
        Who, how it ended, and why where it is not done.
    inputs : tuple of str
        Relative to the INPUT they were found under.
    outputs : dict
        By format, relative to OUT.
    labels : tuple of dict
        Id, name, colour, volume in ml and voxels of every label of the model.
    findings : tuple of dict
        As `medseg inspect` gives them.
    confidence, flags, seconds, peak_ram_mb
        As `medseg.inference.Result` gives them, with ``read`` and ``write`` among the seconds.
    hashes : dict
        SHA-256 of the input's content (``input``) and of every output, by format.
    checks : dict
        By format, what came of opening the output again (`medseg.batch.recheck.Check`).
    region : list of list of int or None
        First voxel (z, y, x) that the network looked at and the one after the last, where that was a part of the scan.
    objects : tuple of dict or None
        Count and sizes of the objects of every label that was taken apart (`medseg.instances.summarised`); ``None``
        where the mask was not.
    """

    id: str
    status: Status
    reason: str = ""
    inputs: tuple[str, ...] = ()
    outputs: dict[str, str] = field(default_factory=dict)
    labels: tuple[dict[str, Any], ...] = ()
    findings: tuple[dict[str, str], ...] = ()
    confidence: float | None = None
    flags: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    peak_ram_mb: float | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    region: list[list[int]] | None = None
    objects: tuple[dict[str, Any], ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the keys of the contract."""
        document: dict[str, Any] = {
            "id": self.id,
            "status": self.status,
            "reason": self.reason,
            "inputs": list(self.inputs),
            "outputs": dict(self.outputs),
            "labels": [dict(label) for label in self.labels],
            "findings": [dict(finding) for finding in self.findings],
            "confidence": None if self.confidence is None else round(self.confidence, 4),
            "flags": list(self.flags),
            "seconds": {step: round(value, 3) for step, value in self.seconds.items()},
            "peak_ram_mb": None if self.peak_ram_mb is None else round(self.peak_ram_mb),
            "hashes": dict(self.hashes),
            "checks": {name: dict(check) for name, check in self.checks.items()},
        }
        if self.region is not None:
            document["region"] = self.region
        return document if self.objects is None else document | {"objects": [dict(entry) for entry in self.objects]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the record that `to_json` wrote."""
        lists = {name: tuple(document[name]) for name in ("inputs", "labels", "findings", "flags")}
        if "objects" in document:
            lists["objects"] = tuple(document["objects"])
        return cls(**(dict(document) | lists))


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole document.

    Attributes
    ----------
    model : dict
        ``name`` and ``sha256``.
    numeric_path : dict
        What the last digits depend on beside model and scan.
    started, finished : str
        ISO 8601 with zone; `finished` is empty while cases are left to do.
    cases : tuple of CaseRecord
        In the order they were found.
    options : dict
        What was asked for: formats, selection, channels, repairs.
    """

    model: dict[str, str]
    numeric_path: dict[str, Any]
    started: str
    finished: str = ""
    cases: tuple[CaseRecord, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """How many cases ended in which word."""
        return {status: sum(case.status == status for case in self.cases) for status in STATUSES}

    def with_cases(self, cases: tuple[CaseRecord, ...], *, finished: str = "") -> Self:
        """Return the manifest with other cases."""
        return replace(self, cases=cases, finished=finished)

    def to_json(self) -> dict[str, Any]:
        """Return the keys of the contract."""
        return {
            "schema": 1,
            "medseg": __version__,
            "model": dict(self.model),
            "numeric_path": dict(self.numeric_path),
            "options": dict(self.options),
            "started": self.started,
            "finished": self.finished or None,
            "counts": self.counts,
            "cases": [case.to_json() for case in self.cases],
        }

    def write(self, out: Path) -> None:
        """Write ``manifest.json`` into an output folder, whole or not at all."""
        write_text(out / NAME, json.dumps(self.to_json(), indent=1, allow_nan=False, ensure_ascii=False) + "\n")

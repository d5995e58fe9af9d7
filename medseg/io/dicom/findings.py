"""What can be said about a file, series or volume: the closed list of finding codes, with their weight and remedy.

Programs rely on the codes; add, don't rename. A finding's message never holds a patient attribute.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Severity = Literal["note", "warning", "error"]
Status = Literal["ok", "repairable", "refused", "ignored"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a code usually means: its weight, what becomes of the item, and what a person can do."""

    severity: Severity
    effect: Status
    remedy: str = ""


_RESAMPLE = "Pass --on-irregular resample to interpolate it onto a regular grid, or export the series again, whole"
_COMPLETE = "Export the series again from the archive"
_NOT_AN_IMAGE = "Nothing to do: it is left out"

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        # what lies between the slices
        "missing-slice": Rule("warning", "repairable", _RESAMPLE),
        "uneven-spacing": Rule("warning", "repairable", _RESAMPLE),
        "slice-gap": Rule("warning", "ok"),
        "single-slice": Rule("warning", "ok"),
        # how the slices lie
        "gantry-tilt": Rule("warning", "ok"),
        "oblique": Rule("note", "ok"),
        "not-orthonormal": Rule("note", "ok"),
        "no-geometry": Rule("error", "refused", "Export the original images; the position cannot be invented"),
        # which slices belong together
        "duplicate-instance": Rule("note", "ok"),
        "duplicate-position": Rule("error", "refused", "Put each acquisition into a folder of its own"),
        "mixed-orientation": Rule("note", "ok"),
        "mixed-size": Rule("note", "ok"),
        "mixed-type": Rule("note", "ok"),
        "several-acquisitions": Rule("note", "ok"),
        "mixed-frame": Rule("warning", "ok"),
        "four-d": Rule("warning", "repairable", "Choose one volume with --volume N, counted from 0"),
        "empty-uid": Rule("warning", "ok"),
        # what kind of object it is
        "localizer": Rule("note", "ignored", _NOT_AN_IMAGE),
        "mosaic": Rule("warning", "repairable", "Pass --mosaic split to take it apart into its slices"),
        "multi-frame": Rule("error", "refused", "Convert the object to single-frame DICOM or NIfTI first"),
        "two-dimensional": Rule("note", "ok"),
        "colour": Rule("error", "refused", "Segment the grey original"),
        "derived-object": Rule("note", "ignored", _NOT_AN_IMAGE),
        "not-an-image": Rule("note", "ignored", _NOT_AN_IMAGE),
        "dicomdir": Rule("note", "ignored", "Nothing to do: the files it lists are found without it"),
        "wrong-modality": Rule("error", "refused", "Pass --any-modality if the model is meant for it all the same"),
        # the voxels
        "non-finite": Rule("error", "refused", "Pass --on-nonfinite fill to set them to the lowest finite value"),
        "bad-rescale": Rule("error", "refused", _COMPLETE),
        "modality-lut": Rule("note", "ok"),
        "padding": Rule("note", "ok"),
        "inverted": Rule("note", "ok"),
        "suv": Rule("note", "ok"),
        "no-suv": Rule("warning", "ok", "Export the series with its weight, dose and times"),
        "no-pixel-data": Rule("error", "refused", _COMPLETE),
        "truncated": Rule("error", "refused", _COMPLETE),
        "undecodable": Rule("error", "refused", "Export the series uncompressed (Explicit VR Little Endian)"),
        # the file
        "not-dicom": Rule("note", "ignored", _NOT_AN_IMAGE),
        "empty-file": Rule("note", "ignored", "Nothing to do: the file holds no byte"),
        "unreadable": Rule("error", "refused", "Check that the file is whole and that you may read it"),
        # what was asked for
        "not-selected": Rule("note", "ignored", "Widen the rule if it should be taken"),
        "missing-channel": Rule("error", "refused", "Name a series for every channel with --channel NAME='rule'"),
        "ambiguous-channel": Rule("error", "refused", "Make the rule of --channel narrower, so that one series fits"),
        "not-registered": Rule(
            "error", "refused", "Pass --assume-registered if the series lie on each other all the same"
        ),
        "format-not-applicable": Rule("warning", "ok", "Ask for another format, or export the series with its UIDs"),
    }
)

_RANK: tuple[Status, ...] = ("ok", "repairable", "refused", "ignored")
_SEVERITY: Mapping[Status, Severity] = MappingProxyType(
    {"ok": "warning", "repairable": "warning", "refused": "error", "ignored": "note"}
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing worth saying about an item.

    Attributes
    ----------
    code : str
        One of `RULES`.
    severity : {"note", "warning", "error"}
    message : str
        What was found, for people.
    remedy : str
        What a person can do about it; may be empty.
    effect : {"ok", "repairable", "refused", "ignored"}
        The best status an item with this finding can have.
    """

    code: str
    severity: Severity
    message: str
    remedy: str = ""
    effect: Status = "ok"

    def to_json(self) -> dict[str, str]:
        """Return the keys of the contract."""
        return {"code": self.code, "severity": self.severity, "message": self.message, "remedy": self.remedy}


def finding(code: str, message: str, *, effect: Status | None = None, remedy: str | None = None) -> Finding:
    """Return a finding with the usual weight of its code, or with the weight that belongs to `effect`.

    Examples
    --------
    >>> finding("four-d", "2 volumes on one grid").effect
    'repairable'
    >>> finding("no-geometry", "no pixel size", effect="ok").severity
    'warning'
    """
    rule = RULES[code]
    if effect is None or effect == rule.effect:
        effect, severity = rule.effect, rule.severity
    else:
        severity = _SEVERITY[effect]
    return Finding(code, severity, message, rule.remedy if remedy is None else remedy, effect)


def status_of(findings: Iterable[Finding]) -> Status:
    """Return the status of an item with `findings`: ignored before refused before repairable before ok.

    Examples
    --------
    >>> status_of([finding("oblique", "12 degrees"), finding("four-d", "2 volumes")])
    'repairable'
    """
    return max((f.effect for f in findings), key=_RANK.index, default="ok")

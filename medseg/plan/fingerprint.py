"""Fingerprint: what a data set is like, measured once."""

from __future__ import annotations

from pydantic import Field

from medseg.plan.part import Count, Labels, Part, Triple


class CaseFingerprint(Part):
    """One case on a grid in the plan's orientation: shape and spacing along (Z, Y, X)."""

    id: str
    shape: tuple[Count, Count, Count]
    spacing_mm: Triple
    label_voxels: dict[int, int]


class ChannelFingerprint(Part):
    """Intensities of one channel inside the foreground of all cases."""

    name: str
    mean: float
    std: float
    percentile_00_5: float
    percentile_99_5: float
    minimum: float
    maximum: float


class Fingerprint(Part):
    """What a data set is like, measured once."""

    dataset: str
    content_sha256: str
    cases: tuple[CaseFingerprint, ...] = Field(min_length=1)
    channels: tuple[ChannelFingerprint, ...] = Field(min_length=1)
    labels: Labels
    ignore_label: int | None = None

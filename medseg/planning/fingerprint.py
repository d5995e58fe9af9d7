"""The fingerprint of a data set: shapes, spacings, label sizes and foreground intensities, measured once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.datasets import colour_channels, combined_sha256, content_sha256, for_each, read_case, with_labels
from medseg.errors import InputError
from medseg.plan import CaseFingerprint, ChannelFingerprint, Fingerprint
from medseg.progress import ignore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medseg.case import Case, Dataset
    from medseg.labels import LabelSet
    from medseg.progress import Progress
    from medseg.volume import Segmentation, Volume

SAMPLES = 10_000  # foreground voxels looked at in each case, as in nnU-Net
ORIENTATION = "SPL"


@dataclass(frozen=True, slots=True)
class _Measured:
    case: CaseFingerprint
    content: str
    channels: tuple[str, ...]
    samples_cn: NDArray[np.float32]


def fingerprint(dataset: Dataset, *, cases: Sequence[Case] | None = None, progress: Progress = ignore) -> Fingerprint:
    """Return what a data set is like.

    Intensities come from at most 10 000 foreground voxels of each case, drawn by a generator that is seeded with the
    case's id, so that the result does not depend on the order or the number of cases looked at side by side.

    Parameters
    ----------
    dataset : Dataset
        Cases with masks. Where it names no labels, those found in the masks are taken.
    cases : sequence of Case, optional
        The part to measure; all by default.
    progress : Progress
        Told after every case.

    Raises
    ------
    InputError
        Where a case cannot be read, cases have different channels, or there is no foreground at all.
    """
    dataset = with_labels(dataset, progress=progress)
    channels = dataset.channels or colour_channels(dataset.cases)
    measured = for_each(
        lambda case: _measure(case, dataset.labels, channels),
        dataset.cases if cases is None else cases,
        stage="fingerprint",
        progress=progress,
    )
    if not measured:
        raise InputError("there is no case to measure", where=dataset.name)
    return Fingerprint(
        dataset=dataset.name,
        content_sha256=combined_sha256(m.content for m in measured),
        cases=tuple(m.case for m in measured),
        channels=_channels(measured),
        labels=dataset.labels,
        ignore_label=dataset.ignore,
    )


def _measure(case: Case, labels: LabelSet, channels: tuple[str, ...]) -> _Measured:
    image, mask = read_case(case, labels=labels, channels=channels)
    grid = image.geometry.reoriented(ORIENTATION)
    entry = CaseFingerprint(id=case.id, shape=grid.shape, spacing_mm=grid.spacing_mm, label_voxels=mask.voxel_counts())
    return _Measured(entry, content_sha256(case), image.channels, _samples(case.id, image, mask))


def _samples(case_id: str, image: Volume, mask: Segmentation) -> NDArray[np.float32]:
    """Return intensities (C, n) of up to `SAMPLES` foreground voxels."""
    foreground = np.flatnonzero(mask.array if mask.ignore is None else mask.array * (mask.array != mask.ignore))
    if foreground.size > SAMPLES:
        seed = int.from_bytes(hashlib.sha256(case_id.encode()).digest()[:8])
        foreground = foreground[np.random.default_rng(seed).integers(foreground.size, size=SAMPLES)]
    samples = image.array.reshape(len(image.channels), -1)[:, foreground].astype(np.float32)
    if not np.isfinite(samples).all():
        raise InputError(
            "the image holds voxels that are not finite", where=case_id, remedy="Replace them, or take the case out"
        )
    return samples


def _channels(measured: Sequence[_Measured]) -> tuple[ChannelFingerprint, ...]:
    names = measured[0].channels
    for m in measured:
        if len(m.channels) != len(names):
            raise InputError(f"the case has {len(m.channels)} channels", expected=f"{len(names)}", where=m.case.id)
    samples = np.concatenate([m.samples_cn for m in measured], axis=1).astype(np.float64)
    if samples.shape[1] == 0:
        raise InputError("no mask holds any foreground", remedy="Draw the structures to be learned")
    agreed = all(m.channels == names for m in measured)
    low, high = np.percentile(samples, [0.5, 99.5], axis=1)
    return tuple(
        ChannelFingerprint(
            name=name if agreed else f"image_{i}",
            mean=float(samples[i].mean()),
            std=float(samples[i].std()),
            percentile_00_5=float(low[i]),
            percentile_99_5=float(high[i]),
            minimum=float(samples[i].min()),
            maximum=float(samples[i].max()),
        )
        for i, name in enumerate(names)
    )

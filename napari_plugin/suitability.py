"""Does this scan suit this model? What does not fit, in words. No Qt, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from medseg.batch.job import Target
    from medseg.geometry import Geometry
    from medseg.model import Card
    from medseg.plan import Plan
    from napari_plugin.source import Source

Verdict = Literal["fits", "doubtful", "unfit"]
_COARSE = 2.0  # times the model's voxel
_SMALL = 0.5  # of the patch, in mm


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing about a scan and a model: how grave it is, and a sentence."""

    verdict: Verdict
    words: str


def remarks(sources: Sequence[Source], plan: Plan, card: Card) -> tuple[Remark, ...]:
    """Return what does not fit of scans, one per channel, gravest first; empty where everything does.

    Parameters
    ----------
    sources : sequence of Source
        The scans, in the order of the model's channels.
    plan : Plan
        The model's.
    card : Card
        The model's.
    """
    found = [*_of_channels(sources, plan, card)]
    if sources:
        found += [*_of_spacing(sources[0].geometry, plan), *_of_field(sources[0].geometry, plan)]
        found += _of_frames(sources)
    return tuple(sorted(found, key=lambda remark: ("unfit", "doubtful", "fits").index(remark.verdict)))


def verdict_of(found: Iterable[Remark]) -> Verdict:
    """Return the gravest verdict.

    Examples
    --------
    >>> verdict_of([]), verdict_of([Remark("doubtful", "...")])
    ('fits', 'doubtful')
    """
    verdicts = {remark.verdict for remark in found}
    return "unfit" if "unfit" in verdicts else "doubtful" if "doubtful" in verdicts else "fits"


def _of_channels(sources: Sequence[Source], plan: Plan, card: Card) -> Iterable[Remark]:
    if len(sources) != len(plan.channels):
        yield Remark("unfit", f"The model takes {len(plan.channels)} images ({', '.join(plan.channels)}).")
        return
    targets = _targets(plan, card)
    for source, channel, target in zip(sources, plan.channels, targets, strict=True):
        made_for = ", ".join(target.modalities)
        if not source.modality and made_for:
            yield Remark("doubtful", f"{source.name} does not say what modality it is; the model is for {made_for}.")
        elif source.modality and not target.takes(source.modality):
            what = f"{source.name} is {source.modality}"
            yield Remark("unfit", f"{what}; the model's channel {channel} is for {made_for}.")


def _targets(plan: Plan, card: Card) -> tuple[Target, ...]:
    from medseg.batch.job import Target

    target = Target(plan.channels, card.modalities)
    if len(plan.channels) == len(card.modalities):
        return target.one_by_one() if len(plan.channels) > 1 else (target,)
    return (target,) * len(plan.channels)


def _of_spacing(grid: Geometry, plan: Plan) -> Iterable[Remark]:
    """Compare voxels where the model sees them: sorted, as the scan's axes may lie otherwise."""
    if plan.preprocess.orientation == "stored":
        have, want = sorted(grid.spacing_mm), sorted(plan.preprocess.spacing_mm)
    else:
        have, want = list(grid.reoriented(plan.preprocess.orientation).spacing_mm), list(plan.preprocess.spacing_mm)
    if max(np.array(have) / np.array(want)) > _COARSE:
        yield Remark("doubtful", f"Its voxels ({_mm(have)}) are much coarser than the model's ({_mm(want)}).")


def _of_field(grid: Geometry, plan: Plan) -> Iterable[Remark]:
    axes = [axis for axis in range(3) if axis != plan.slice_axis]
    codes = plan.preprocess.orientation
    seen = grid if codes == "stored" else grid.reoriented(codes)
    field = np.array(seen.shape) * seen.spacing_mm
    patch = np.array(plan.train.patch_size) * plan.preprocess.spacing_mm
    if any(field[axis] < _SMALL * patch[axis] for axis in axes):
        yield Remark(
            "doubtful", f"It shows {_mm(field)} (Z, Y, X), the model looks at {_mm(patch)} at a time: much is missing."
        )


def _of_frames(sources: Sequence[Source]) -> Iterable[Remark]:
    frames = {s.geometry.frame_of_reference_uid for s in sources} - {None}
    if len(frames) > 1:
        yield Remark("unfit", "The images are in different frames of reference, so they may not lie on each other.")


def _mm(lengths: Iterable[float]) -> str:
    return " x ".join(f"{length:.3g}" for length in lengths) + " mm"

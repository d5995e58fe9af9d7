"""The weights a run starts from: read before anything is touched, noted in its plan, reported in its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from medseg.errors import PlanError
from medseg.io.atomic import write_text
from medseg.progress import Progress, Step, ignore
from medseg.training.initial import InitReport, initial_weights, read_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from medseg.plan import InitialNote, Plan
    from medseg.training.initial import Source

_AGAIN = "Give the same weights, or begin another run (--overwrite, or another folder)"
_SEEN = (
    "The model learned from this data set, in other folds: cases that validate this run may have been among those it "
    "learned from, and their scores flatter."
)

GENTLE_SHARE, GENTLE_WARMUP = 0.1, 0.1


@dataclass(frozen=True, slots=True)
class Start:
    """A plan that notes what its run starts from, the folds yet to begin, and what became of the first one's."""

    plan: Plan
    source: Source | None = None
    inflate: bool = False
    folds: tuple[int, ...] = ()
    report: InitReport | None = None

    def weights(self, fold: int) -> Mapping[str, Tensor] | None:
        """Return the whole state a fold begins with; None where it begins afresh or goes on.

        It is made when it is asked for: of all folds together it would fill the memory.
        """
        if self.source is None or fold not in self.folds:
            return None
        return initial_weights(self.plan, self.source, fold=fold, inflate=self.inflate).weights

    def write(self, path: Path, *, progress: Progress = ignore) -> None:
        """Leave the report beside the plan, and tell its first line at once."""
        if self.report is not None:
            progress(Step("weights", 1, 1, self.report.lines()[0]))
            write_text(path, json.dumps(self.report.to_json(), indent=1) + "\n")


def start(
    plan: Plan, path: Path | None, *, inflate: bool, folds: Sequence[int], began_with: Plan | None, content: str
) -> Start:
    """Return where a run starts: fresh, or from the weights at a path.

    Parameters
    ----------
    plan : Plan
        What will be trained; it may note already what it starts from.
    path : Path or None
        What was asked for.
    inflate : bool
        Whether 2-D kernels may become 3-D ones.
    folds : sequence of int
        Those that have no checkpoint to go on from.
    began_with : Plan or None
        The plan of the run that is resumed.
    content : str
        The hash of the data set, to tell whether a model learned from it.

    Raises
    ------
    InputError, ModelError
        Where the weights cannot be used.
    PlanError
        Where they are not those the plan notes, or the plan notes some and none were given.
    """
    source = None if path is None else read_source(path)
    noted = plan.initial if began_with is None else began_with.initial
    if began_with is not None and plan.initial != noted:
        raise PlanError("a run that has begun cannot change what it started from", expected=_in_words(noted))
    if source is None:
        _require_no_weights(noted, folds, inflate=inflate, begun=began_with is not None)
        return Start(plan)
    if began_with is not None and noted is None:
        raise PlanError(
            f"--init names {source.note.in_words}", expected="nothing: the run began with fresh weights", remedy=_AGAIN
        )
    if noted is not None and noted.sha256 != source.note.sha256:
        raise PlanError(f"--init names {source.note.in_words}", expected=_in_words(noted), remedy=_AGAIN)
    plan = plan.model_copy(update={"initial": noted or source.note})
    if not folds:
        return Start(plan)
    report = initial_weights(plan, source, fold=folds[0], inflate=inflate).report  # what fits one fold fits all
    if _has_seen(source, plan, folds, content):
        report = replace(report, remarks=(*report.remarks, _SEEN))
    return Start(plan, source, inflate, tuple(folds), report)


def gentler(begun: Start, *, rate_is_asked: bool, warmup_is_asked: bool) -> Start:
    """Return a start whose plan learns gently, where a whole network goes on learning and nobody asked for a rate.

    The rule: a tenth of the learning rate, reached in a warm-up of at least a tenth of the run. A network that has
    learned lies in a minimum; the full rate of a first training, taken at once, throws it out, and what it knew is
    learned again rather than built on. Both are rules of thumb. Where only an encoder was taken, the rest is fresh and
    needs the full rate.

    Parameters
    ----------
    begun : Start
        What `start` returned for a run that begins.
    rate_is_asked, warmup_is_asked : bool
        Whether recipe, plan or settings say so; then it stays.
    """
    if begun.report is None or not begun.report.is_whole or rate_is_asked:
        return begun
    optimizer = begun.plan.train.optimizer
    rate = float(f"{optimizer.learning_rate * GENTLE_SHARE:.6g}")
    warmup = optimizer.warmup if warmup_is_asked else max(optimizer.warmup, GENTLE_WARMUP)
    optimizer = optimizer.model_copy(update={"learning_rate": rate, "warmup": warmup})
    train = begun.plan.train.model_copy(update={"optimizer": optimizer})
    remark = (
        f"The learning rate is {rate:g}, a tenth of a first training's, with warm-up: the whole network was taken. "
        "--set train.optimizer.learning_rate=... sets another."
    )
    report = replace(begun.report, remarks=(*begun.report.remarks, remark))
    return replace(begun, plan=begun.plan.model_copy(update={"train": train}), report=report)


def _has_seen(source: Source, plan: Plan, folds: Sequence[int], content: str) -> bool:
    """Tell whether a model may have learned from cases that will be validated on: same data, other folds."""
    model = source.model
    if model is None or model.card.data.sha256 != content:
        return False
    return model.plan.train.folds != plan.train.folds or not set(folds) <= set(model.weights)


def _require_no_weights(noted: InitialNote | None, folds: Sequence[int], *, inflate: bool, begun: bool) -> None:
    """Refuse to start without weights where some are noted, or asked about."""
    if noted is not None and folds:
        instead = "" if begun else "; or plan anew, or with --set initial=null, to start from fresh ones"
        raise PlanError(
            f"fold {folds[0]} starts from {noted.in_words}, as the plan notes, and no weights were given",
            remedy=f"Name them with --init PATH{instead}",
        )
    if inflate and noted is None:
        raise PlanError("--inflate was given without weights", expected="--init PATH beside it")


def _in_words(note: InitialNote | None) -> str:
    return "fresh weights" if note is None else note.in_words

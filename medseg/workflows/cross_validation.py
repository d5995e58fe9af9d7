"""Cross-validation: every case scored by the member that never saw it, and the tidying chosen by these scores.

What the scores say of tidying is honest: the masks of a fold are tidied as the other folds alone would have it, while
the model gets what all folds together would have.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg import postprocess
from medseg.datasets import read_case
from medseg.evaluation import RULE, Evaluation, Tidying, choose, label_trials, read_pairs, score_case
from medseg.progress import Progress, Step, ignore
from medseg.workflows.validation import FoldScores, referenced, write_scores

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from medseg.case import Case
    from medseg.evaluation import CaseScore, LabelTrial
    from medseg.labels import LabelSet
    from medseg.plan import Plan

Choices = dict[int, Tidying]  # by label id; labels of which nothing is tidied are left out
_NOTHING = Tidying()


@dataclass(frozen=True, slots=True)
class FoldMasks:
    """A fold's validation: its cases, where their masks lie, how they scored, and what is to know to tidy them."""

    cases: tuple[Case, ...]
    folder: Path
    scores: FoldScores
    trials: Mapping[str, Mapping[int, LabelTrial]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """Scores over the cases of all folds, and how the model tidies."""

    scores: FoldScores
    chosen: Choices
    evidence: dict[str, dict[str, bool | float | None]]

    @property
    def in_words(self) -> str:
        """Of which cases the scores are."""
        words = f"{len(self.scores.evaluation.cases)} cases, each by the one member that never saw it"
        is_judged = len(self.scores.document["postprocessing"]["chosen_without_fold"]) > 1
        return f"{words}, post-processing chosen on the other folds" if is_judged else words

    @property
    def choice_in_words(self) -> str:
        """What the model tidies by this choice, in one line."""
        names = ", ".join(self.evidence)
        return f"Post-processing chosen for {names}: see the report." if names else "Post-processing: none chosen."

    def rows(self) -> list[tuple[object, ...]]:
        """Return the rows of a table of folds."""
        return [("all", *row) for row in self.scores.rows()]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"summary": self.scores.summary, "postprocessing": self.scores.document["postprocessing"]}


def trials_of(folder: Path, cases: Sequence[Case], labels: LabelSet, *, progress: Progress = ignore) -> Any:
    """Return what is to know of each case's mask in an output folder to tell its Dice after any tidying.

    Returns
    -------
    dict of case id to dict of label id to LabelTrial
    """
    references = referenced(cases)
    trials = {}
    for number, (case, prediction, reference) in enumerate(read_pairs(folder, references, labels)):
        progress(Step("judge", number, len(references), case))
        trials[case] = label_trials(prediction, reference)
    return trials


def cross_validate(
    plan: Plan, folds: Mapping[int, FoldMasks], out: Path, *, notes: Sequence[str] = (), progress: Progress = ignore
) -> CrossValidation:
    """Score the cases of all folds together, choose what is tidied, and write what came of it into the folder `out`.

    Labels that the plan tidies already are left as they are. With a single fold nothing is chosen: there is no other
    fold to judge by.

    Parameters
    ----------
    plan : Plan
        What the members were trained by.
    folds : mapping of fold to FoldMasks
        All folds. A case that several of them hold out is taken from the first.
    out : Path
        The folder to write ``metrics.json``, ``metrics.csv`` and ``evaluation.html`` to.
    notes : sequence of str
        What else a reader of the numbers should know.
    progress : Progress
        Told each case that is scored again.

    Raises
    ------
    OutputError
        Where `out` cannot be written.
    """
    ids = _own_ids(folds)
    open_labels = [i for i in plan.labels.ids if i not in _tidied(plan)]
    chosen = _chosen(folds, ids, open_labels) if len(folds) > 1 else {}
    by_others = {fold: _chosen(folds, {k: v for k, v in ids.items() if k != fold}, open_labels) for fold in folds}
    before = {case: folds[fold].scores.evaluation.cases[case] for fold in folds for case in ids[fold]}
    after = dict(before)
    for fold, choices in by_others.items():
        if choices:
            after |= _scored_again(folds[fold], ids[fold], choices, plan.labels, progress)
    evidence = {
        plan.labels[i].name: asdict(chosen.get(i, _NOTHING)) | _compared(before, after, i)
        for i in sorted({*chosen, *(i for choices in by_others.values() for i in choices)})
    }
    names = {
        str(fold): {plan.labels[i].name: asdict(c) for i, c in choices.items()} for fold, choices in by_others.items()
    }
    told = {"rule": RULE, "labels": evidence, "chosen_without_fold": names}
    out.mkdir(parents=True, exist_ok=True)
    scores = write_scores(_merged(folds, after, notes), out, {"postprocessing": told})
    return CrossValidation(scores, chosen, {n: e for n, e in evidence.items() if plan.labels.by_name(n).id in chosen})


def tidied(plan: Plan, choices: Choices) -> Plan:
    """Return a plan that also tidies as chosen.

    The order of label ids is rising, and what the plan tidied before stays.
    """
    infer = plan.infer
    largest = {*infer.largest_component, *(i for i, c in choices.items() if c.largest_component)}
    filled = {*infer.fill_holes, *(i for i, c in choices.items() if c.fill_holes)}
    minimum_ml = infer.minimum_ml | {i: c.minimum_ml for i, c in choices.items() if c.minimum_ml}
    fields = {"largest_component": tuple(sorted(largest)), "fill_holes": tuple(sorted(filled))}
    return plan.model_copy(update={"infer": infer.model_copy(update=fields | {"minimum_ml": minimum_ml})})


def judging_s(plan: Plan, case: Case) -> float:
    """Return the time that judging and scoring one case takes, measured on its reference."""
    _, reference = read_case(case, labels=plan.labels, channels=plan.channels)
    started = time.perf_counter()
    label_trials(reference, reference)
    score_case(reference, reference)
    return time.perf_counter() - started


def _own_ids(folds: Mapping[int, FoldMasks]) -> dict[int, list[str]]:
    """Return the cases of each fold, without those that a fold before it held out, too."""
    ids: dict[int, list[str]] = {}
    seen: set[str] = set()
    for fold, masks in folds.items():
        ids[fold] = [case for case in masks.scores.evaluation.cases if case not in seen]
        seen.update(ids[fold])
    return ids


def _tidied(plan: Plan) -> set[int]:
    return {*plan.infer.largest_component, *plan.infer.minimum_ml, *plan.infer.fill_holes}


def _chosen(folds: Mapping[int, FoldMasks], ids: Mapping[int, Sequence[str]], labels: Iterable[int]) -> Choices:
    """Return what the cases given, of more than nothing, would have tidied."""
    trials = [folds[f].trials[case] for f, cases in ids.items() for case in cases if case in folds[f].trials]
    choices = {label_id: choose([one[label_id] for one in trials]) for label_id in labels}
    return {label_id: choice for label_id, choice in choices.items() if choice != _NOTHING}


def _scored_again(
    masks: FoldMasks, ids: Sequence[str], choices: Choices, labels: LabelSet, progress: Progress
) -> dict[str, CaseScore]:
    """Return the scores of the cases that tidying changes."""
    plan = postprocess.PostprocessPlan(
        tuple(i for i, c in choices.items() if c.largest_component),
        {i: c.minimum_ml for i, c in choices.items() if c.minimum_ml},
        tuple(i for i, c in choices.items() if c.fill_holes),
    )
    scores = {}
    pairs = read_pairs(masks.folder, referenced(masks.cases), labels, only=set(ids))
    for number, (case, prediction, reference) in enumerate(pairs):
        progress(Step("tidy", number, len(ids), case))
        result = postprocess.apply(prediction, plan)
        if not np.array_equal(result.array, prediction.array):
            scores[case] = score_case(result, reference, label_ids=labels.ids)
    return scores


def _compared(
    before: Mapping[str, CaseScore], after: Mapping[str, CaseScore], label_id: int
) -> dict[str, float | None]:
    """Return a label's mean Dice over the cases it occurs in, before and after; absent from both masks counts as 1."""
    occurs = [case for case, score in before.items() if label_id in score.labels]
    dice = np.array([[_dice(scores[case], label_id) for scores in (before, after)] for case in occurs]).reshape(-1, 2)
    gains = dice[:, 1] - dice[:, 0]
    return {
        "dice_before": float(dice[:, 0].mean()) if occurs else None,
        "dice_after": float(dice[:, 1].mean()) if occurs else None,
        "better": int(np.count_nonzero(gains > 0)),
        "worse": int(np.count_nonzero(gains < 0)),
        "cases": len(occurs),
    }


def _dice(score: CaseScore, label_id: int) -> float:
    value = score.labels[label_id].dice if label_id in score.labels else None
    return 1.0 if value is None else value


def _merged(folds: Mapping[int, FoldMasks], cases: Mapping[str, CaseScore], notes: Sequence[str]) -> Evaluation:
    parts = [masks.scores.evaluation for masks in folds.values()]
    missing = sorted({case for part in parts for case in part.missing})
    told = dict.fromkeys([*notes, *(note for part in parts for note in part.notes)])
    ordered = dict(sorted(cases.items()))
    return Evaluation(ordered, parts[0].labels, tuple(missing), parts[0].nsd_tolerance_mm, tuple(told))

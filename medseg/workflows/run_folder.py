"""The run folder of training: who may write into it, and what lies where."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.errors import OutputError, PlanError
from medseg.io.atomic import write_text
from medseg.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_OURS = ("plan.yaml", "init.json", "model", "prepared", "report.html", "cross_validation")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The places of docs/architecture.md, section 6, under one root."""

    root: Path

    @property
    def plan(self) -> Path:
        """The resolved plan."""
        return self.root / "plan.yaml"

    @property
    def initial(self) -> Path:
        """What became of the weights the run started from, where it did not start from fresh ones."""
        return self.root / "init.json"

    @property
    def model(self) -> Path:
        """The model folder."""
        return self.root / "model"

    @property
    def prepared(self) -> Path:
        """Cases on the plan's grid, memory-mapped; may be removed once training is over."""
        return self.root / "prepared"

    @property
    def report(self) -> Path:
        """The page about the run."""
        return self.root / "report.html"

    @property
    def cross_validation(self) -> Path:
        """The scores of all cases, each by the member that never saw it."""
        return self.root / "cross_validation"

    def fold(self, number: int) -> Path:
        """Return the folder of one fold."""
        return self.root / f"fold_{number}"

    def can_go_on(self, number: int) -> bool:
        """Tell whether a fold left a checkpoint."""
        return (self.fold(number) / "last").is_dir()

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds that have been started, rising."""
        names = (path.name.removeprefix("fold_") for path in self.root.glob("fold_*") if (path / "last").is_dir())
        return tuple(sorted(int(name) for name in names if name.isdecimal()))

    def require_free(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse a folder this run may not use; touches nothing.

        Raises
        ------
        OutputError
            Where it holds something and neither resuming nor overwriting was asked for, or there is nothing to resume.
        PlanError
            Where both were asked for.
        """
        if resume and overwrite:
            raise PlanError("both --resume and --overwrite were given", expected="one of them")
        where = str(self.root)
        if self.root.exists() and not self.root.is_dir():
            raise OutputError("there is a file of this name", expected="a folder", where=where)
        if resume:
            if not self.plan.is_file() or not self.folds:
                raise OutputError(
                    "there is nothing to resume: the folder holds no checkpoint",
                    where=where,
                    remedy="Start the run without --resume",
                )
            return
        if not self.root.is_dir() or not any(self.root.iterdir()):
            return
        if not overwrite:
            raise OutputError(
                "the run folder is not empty",
                where=where,
                remedy="Pass --resume to go on, --overwrite to start again, or name another folder",
            )
        if not self.plan.is_file():
            raise OutputError(
                "the folder holds something medseg train did not write", where=where, remedy="Name another folder"
            )

    def require_outside(self, init: Path) -> None:
        """Refuse weights to start from that lie where an earlier run is taken away; touches nothing.

        Raises
        ------
        OutputError
            Where they lie in this folder, by whatever path they are named.
        """
        places = (init, init / "model")  # a run folder stands for its model
        if any(place.exists() and place.resolve().is_relative_to(self.root.resolve()) for place in places):
            raise OutputError(
                "the weights to start from lie in the run folder, which --overwrite empties",
                expected="a path outside of it",
                where=str(init),
                remedy="Copy them elsewhere and name the copy, or name another run folder",
            )

    def begin(self, plan: Plan, *, resume: bool) -> None:
        """Write the plan the run goes by; but for `resume`, take away what an earlier run left.

        Scores over all folds go in any case: they are of members that may change now.

        Raises
        ------
        OutputError
            Where the folder cannot be made or emptied.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._clear(_OURS if not resume else (self.cross_validation.name,))
            if not resume:
                self._clear(path.name for path in self.root.glob("fold_*"))
        except OSError as error:
            raise OutputError(
                f"the run folder cannot be made ({error.strerror})",
                where=str(self.root),
                remedy="Name a folder you may write to",
            ) from error
        write_text(self.plan, plan.to_yaml())

    def read_plan(self) -> Plan:
        """Return the plan the run began with."""
        return Plan.read(self.plan)

    def _clear(self, names: Iterable[str]) -> None:
        for path in [self.root / name for name in names]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

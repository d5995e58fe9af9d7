"""The run folder of training: who may write into it, and what lies where."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.errors import OutputError, PlanError
from medseg.io.atomic import write_text
from medseg.plan import Plan

if TYPE_CHECKING:
    from pathlib import Path

_OURS = ("plan.yaml", "model", "prepared", "report.html")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The places of docs/architecture.md, section 6, under one root."""

    root: Path

    @property
    def plan(self) -> Path:
        """The resolved plan."""
        return self.root / "plan.yaml"

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

    def fold(self, number: int) -> Path:
        """Return the folder of one fold."""
        return self.root / f"fold_{number}"

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds that have been started, rising."""
        names = (path.name.removeprefix("fold_") for path in self.root.glob("fold_*") if (path / "last").is_dir())
        return tuple(sorted(int(name) for name in names if name.isdecimal()))

    def claim(self, *, resume: bool, overwrite: bool) -> None:
        """Make the folder this run's own.

        Raises
        ------
        OutputError
            Where it holds something and neither resuming nor overwriting was asked for, or there is nothing to resume.
        PlanError
            Where both were asked for.
        """
        if resume and overwrite:
            raise PlanError("both --resume and --overwrite were given", expected="one of them")
        if resume:
            if not self.plan.is_file() or not self.folds:
                raise OutputError(
                    "there is nothing to resume: the folder holds no checkpoint",
                    where=str(self.root),
                    remedy="Start the run without --resume",
                )
            return
        if self.root.exists() and (not self.root.is_dir() or any(self.root.iterdir())):
            self._clear(overwrite=overwrite)
        self.root.mkdir(parents=True, exist_ok=True)

    def read_plan(self) -> Plan:
        """Return the plan the run began with."""
        return Plan.read(self.plan)

    def write_plan(self, plan: Plan) -> None:
        """Write the plan the run goes by."""
        write_text(self.plan, plan.to_yaml())

    def _clear(self, *, overwrite: bool) -> None:
        if not overwrite:
            raise OutputError(
                "the run folder is not empty",
                where=str(self.root),
                remedy="Pass --resume to go on, --overwrite to start again, or name another folder",
            )
        if not self.plan.is_file():
            raise OutputError("the folder holds something medseg train did not write", where=str(self.root))
        for path in (*(self.root / name for name in _OURS), *self.root.glob("fold_*")):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

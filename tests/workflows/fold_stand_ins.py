"""A job of folds that trains nothing: a fold ends well, fails, has its process killed, or would take for ever."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.errors import PlanError
from medseg.progress import Step, ignore

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.progress import Progress


@dataclass(frozen=True)
class Root:
    root: Path


@dataclass(frozen=True)
class StandInJob:
    """Folds by what becomes of them."""

    folder: Root
    ends: tuple[str, ...]

    def set_up(self) -> None:
        (self.folder.root / "set_up").touch()

    def prepare(self, *, progress: Progress = ignore) -> None:
        pass

    def train(self, fold: int, device: str, *, begun: float, progress: Progress = ignore) -> float:
        (self.folder.root / f"begun_{fold}").write_text(device)
        match self.ends[fold]:
            case "fails":
                raise PlanError("the loss became nan", remedy="Lower the learning rate")
            case "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            case "never ends":
                for number in range(10_000):
                    progress(Step("train", number, 10_000))
                    time.sleep(0.05)
        return 2.5

    def validate(self, fold: int, device: str, *, progress: Progress = ignore) -> Any:
        return None

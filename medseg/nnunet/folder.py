"""Which files of a folder are one trained model: plans, labels and a checkpoint for each fold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

PLANS, DATASET = "plans.json", "dataset.json"
ALL = "all"
_FOLD = re.compile(r"fold_(0|[1-9][0-9]{0,3}|all)")
_DEPTH = 3  # results / Dataset001_Name / Trainer__Plans__configuration
_MOST_FOLDERS = 2000
_LAYOUT = (
    f"TRAINER__PLANS__CONFIGURATION with {PLANS}, {DATASET} and fold_N/checkpoint_final.pth, as nnU-Net v2 leaves it"
)


@dataclass(frozen=True, slots=True)
class TrainedFolder:
    """One trained configuration.

    Attributes
    ----------
    path : Path
        The folder that holds ``plans.json``.
    checkpoints : dict of str to Path
        By fold: a number, or ``all``.
    """

    path: Path
    checkpoints: dict[str, Path]

    @property
    def members(self) -> dict[int, Path]:
        """The checkpoints by the number a model folder gives them; ``all`` is 0."""
        return {0 if fold == ALL else int(fold): path for fold, path in self.checkpoints.items()}


def find_folder(
    folder: Path, *, configuration: str | None = None, folds: Sequence[str] | None = None, checkpoint: str = "final"
) -> TrainedFolder:
    """Return the trained model in a folder: the folder itself, or the only one in it.

    Parameters
    ----------
    folder : Path
        ``TRAINER__PLANS__CONFIGURATION``, or a folder above it.
    configuration : str, optional
        ``3d_fullres``, ``2d``, ..., where there are several.
    folds : sequence of str, optional
        Numbers, or ``all``; by default all numbered folds that have the checkpoint, as nnU-Net takes them.
    checkpoint : "final" or "best"
        Which of a fold's checkpoints.

    Raises
    ------
    ModelError
        Where there is no such model, or there are several.
    """
    if not folder.is_dir():
        raise ModelError("there is no such folder", expected=_LAYOUT, where=str(folder))
    trained = _chosen(folder, configuration)
    if not (trained / DATASET).is_file():
        raise ModelError(f"there is no {DATASET} in it", expected=_LAYOUT, where=str(trained))
    name = f"checkpoint_{checkpoint}.pth"
    there = {m[1]: path for path in sorted(trained.iterdir()) if (m := _FOLD.fullmatch(path.name)) and path.is_dir()}
    found = {fold: path / name for fold, path in there.items() if (path / name).is_file()}
    wanted = list(folds) if folds is not None else [fold for fold in found if fold != ALL] or list(found)
    absent = [fold for fold in wanted if fold not in found]
    if absent or not wanted:
        raise ModelError(
            f"fold_{absent[0]} holds no {name}" if absent else f"no fold holds a {name}",
            expected=f"folds with it: {', '.join(found)}" if found else _LAYOUT,
            where=str(trained),
            remedy=_other_checkpoint(there.values(), checkpoint),
        )
    if ALL in wanted and len(wanted) > 1:
        raise ModelError("fold_all was asked for beside others", expected="numbered folds, or all", where=str(trained))
    return TrainedFolder(trained, {fold: found[fold] for fold in sorted(set(wanted), key=lambda f: (len(f), f))})


def _chosen(folder: Path, configuration: str | None) -> Path:
    """Return the folder with plans, of that configuration where one is named."""
    if (folder / PLANS).is_file():
        return folder
    candidates = _with_plans(folder)
    named = [path for path in candidates if configuration is None or path.name.endswith(f"__{configuration}")]
    if len(named) == 1:
        return named[0]
    listed = ", ".join(str(path.relative_to(folder)) for path in candidates)
    if not candidates:
        raise ModelError(f"there is no {PLANS} in it", expected=_LAYOUT, where=str(folder))
    raise ModelError(
        f"the folder holds {len(named) or 'no'} trained models"
        + (f" of configuration {configuration!r}" if configuration else ""),
        expected=f"one of {listed}",
        where=str(folder),
        remedy="Name the folder of the one that is meant, or its --configuration",
    )


def _with_plans(folder: Path) -> list[Path]:
    """Return the folders with plans below one, a few levels deep."""
    level, found = [folder], []
    for _ in range(_DEPTH):
        level = [path for parent in level for path in sorted(parent.iterdir()) if path.is_dir()][:_MOST_FOLDERS]
        found += [path for path in level if (path / PLANS).is_file()]
    return found


def _other_checkpoint(folds: Iterable[Path], asked: str) -> str:
    other = "best" if asked == "final" else "final"
    has_other = any((path / f"checkpoint_{other}.pth").is_file() for path in folds)
    return f"There is a checkpoint_{other}.pth: give --checkpoint {other}" if has_other else ""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.errors import OutputError
from medseg.progress import Cancelled, Step
from medseg.training import PreparedCase, PreparedStore, TrainSettings, train
from tests.training.stand_ins import Balls, small_plan

if TYPE_CHECKING:
    from pathlib import Path


def _store(folder: Path, count: int, *, shape: tuple[int, int, int] = (10, 12, 9)) -> PreparedStore:
    cases = []
    balls = Balls(shape, seed=count)
    for i in range(count):
        image, label = (tensor[0].numpy() for tensor in balls.draw(1))
        place = folder / f"{count}_{i}"
        place.mkdir(parents=True)
        voxels = np.argwhere(label).astype(np.int32)
        for name, array in (("image", image), ("label", label), ("foreground", voxels)):
            np.save(place / f"{name}.npy", array)
        cases.append(PreparedCase(place.name, place, shape, {1: (0, len(voxels))}))
    return PreparedStore(tuple(cases))


def test_trains_on_prepared_cases(tmp_path: Path) -> None:
    training, validation = _store(tmp_path, 4), _store(tmp_path, 2)
    plan = small_plan(epochs=3, steps_per_epoch=25)
    result = train(plan, training, validation, folder=tmp_path / "fold_0", settings=TrainSettings(device="cpu"))
    assert result.history[-1].mean_dice is not None
    assert result.history[-1].mean_dice > 0.7
    assert (tmp_path / "fold_0" / "best" / "weights.safetensors").is_file()


def test_trains_without_validation_cases(tmp_path: Path) -> None:
    result = train(small_plan(), _store(tmp_path, 3), PreparedStore(()), folder=tmp_path / "fold_all")
    assert result.history[-1].mean_dice is None
    assert not (tmp_path / "fold_all" / "best").exists()


def test_a_folder_that_holds_a_run_is_refused(tmp_path: Path) -> None:
    training, validation = _store(tmp_path, 3), _store(tmp_path, 2)
    plan = small_plan(epochs=1, steps_per_epoch=1)
    train(plan, training, validation, folder=tmp_path / "fold_0")
    with pytest.raises(OutputError, match=r"holds a training run.*--resume"):
        train(plan, training, validation, folder=tmp_path / "fold_0")


def test_time_for_the_windows_after_training_is_set_aside(tmp_path: Path) -> None:
    training, validation = _store(tmp_path, 3), _store(tmp_path, 2)
    totals: list[int] = []

    def watch(step: Step, /) -> None:
        totals.append(step.total)
        if len(totals) > 60:
            raise Cancelled

    settings = TrainSettings(budget_s=1000.0, windows_after=5000)
    plan = small_plan(epochs=10**6, steps_per_epoch=30)
    with pytest.raises(Cancelled):
        train(plan, training, validation, folder=tmp_path / "fold_0", settings=settings, progress=watch)
    assert totals[0] > 990
    assert totals[-1] < totals[0]

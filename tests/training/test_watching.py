"""Who watches a run is told what happened, once, and never ends it."""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from medseg.errors import InputError, PlanError
from medseg.progress import Cancelled
from medseg.report.patches import patch_picture
from medseg.training.events import EventLog
from medseg.training.loop import TrainSettings
from medseg.training.record import EpochRow, epochs_without_gain
from medseg.training.watching import Watch, Watching
from tests.training.stand_ins import small_plan
from tests.training.test_loop import StopAt, _train

if TYPE_CHECKING:
    from pathlib import Path


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def row(epoch: int, dice: float | None = 0.5) -> EpochRow:
    return EpochRow(epoch, epoch, 1.0 * epoch, learning_rate=1e-3, loss=0.5, dice=(dice,), seconds_per_step=0.25)


def test_a_run_tells_its_epochs_and_what_a_later_try_changed(tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        _train(small_plan(epochs=2), tmp_path, progress=StopAt(6))
    _train(small_plan(epochs=3), tmp_path, resume=True)
    told = events(tmp_path)
    kinds = [(event["event"], event["epoch"]) for event in told]
    begun = [("begin", 0), ("epoch", 1), ("end", 1), ("begin", 1), ("epoch", 2), ("epoch", 3), ("end", 3)]
    assert kinds == begun
    assert [event["reason"] for event in told if event["event"] == "end"] == ["stopped", "epochs"]
    assert (told[0]["resumed"], told[3]["resumed"]) == (False, True)
    assert told[3]["changed"] == {"train.epochs": [2, 3]}
    assert told[0]["about"]["train"]["batch_size"] == 2
    assert told[1]["dice_by_label"].keys() == {"ball"}
    assert told[1]["seconds_per_step"] > 0


def test_a_line_cut_off_and_epochs_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log.jsonl")
    for epoch in (1, 2, 3):
        log.add("epoch", epoch, {"loss": float(epoch)})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"event": "epoch", "epo')
    log.go_back([{"epoch": 1, "loss": 1.0}])
    assert [event["epoch"] for event in log.read()] == [1]
    log.go_back([{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 9.0}])  # a line that was never written
    assert [(event["epoch"], event["loss"]) for event in events(tmp_path)] == [(1, 1.0), (2, 9.0)]


def test_a_failure_is_told(tmp_path: Path) -> None:
    with pytest.raises(PlanError):
        _train(small_plan(), tmp_path, poison_after=8, validation=False)
    assert events(tmp_path)[-1]["reason"] == "failed"


def test_watchers_are_known_and_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PlanError, match="'wandb' watches no run"):
        Watch(("wandb",)).chosen()
    monkeypatch.setattr("medseg.training.watching.find_spec", lambda _: None)
    assert Watch(("auto",)).chosen() == ()
    with pytest.raises(InputError, match=r"tensorboard is not installed.*medseg\[watch\]"):
        Watch(("tensorboard",)).chosen()
    with pytest.raises(InputError, match=r"medseg\[mlflow\]"):
        Watch(("auto", "mlflow")).chosen()


def test_tensorboard_reads_back_numbers_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    watch = Watch(("auto",))
    with pytest.raises(Cancelled):
        _train(small_plan(epochs=3), tmp_path, progress=StopAt(9), watch=watch)  # after epoch 2
    result = _train(small_plan(epochs=3), tmp_path, resume=True, watch=watch)
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    scalars = {"loss", "learning_rate", "seconds_per_step", "dice/mean", "dice/ball"}
    assert scalars <= set(read.Tags()["scalars"])
    assert [(e.step, round(e.value, 5)) for e in read.Scalars("loss")] == [
        (epoch.epoch, round(epoch.loss, 5)) for epoch in result.history
    ]
    assert [e.step for e in read.Images("patches/1")] == [1, 2, 3]
    assert read.Images("patches/1")[0].encoded_image_string.startswith(b"\x89PNG")


class Client:
    """Stands in for `mlflow.MlflowClient`: remembers what it was told."""

    told: list[tuple[Any, ...]]

    def __init__(self, tracking_uri: str) -> None:
        self.told.append(("at", tracking_uri))

    def get_experiment_by_name(self, name: str) -> None:
        self.told.append(("experiment", name))

    def create_experiment(self, name: str) -> str:
        return f"id of {name}"

    def create_run(self, experiment: str, *, run_name: str) -> SimpleNamespace:
        self.told.append(("run", experiment, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id="7"))

    def update_run(self, run: str, *, status: str) -> None:
        self.told.append(("again", run, status))

    def log_param(self, run: str, key: str, value: str) -> None:
        self.told.append(("param", run, key, value))

    def log_metric(self, run: str, key: str, value: float, *, step: int) -> None:
        if key == "dice/fails":
            raise ConnectionError("the server is gone")
        self.told.append(("metric", run, key, value, step))

    def log_image(self, run: str, image: np.ndarray[Any, Any], *, artifact_file: str) -> None:
        self.told.append(("image", run, image.shape, artifact_file))

    def set_terminated(self, run: str, *, status: str) -> None:
        self.told.append(("over", run, status))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    stand_in = ModuleType("mlflow")
    told: list[tuple[Any, ...]] = []
    stand_in.MlflowClient = type("MlflowClient", (Client,), {"told": told})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", stand_in)
    monkeypatch.setattr("medseg.training.watching.find_spec", lambda name: name == "mlflow" or None)
    return told


def test_mlflow_gets_one_run_for_all_tries_of_a_fold(tmp_path: Path, told: list[tuple[Any, ...]]) -> None:
    for first, pictures in ((1, None), (2, lambda: {"patches/1": np.zeros((4, 9, 3), np.uint8)})):
        with Watching(tmp_path / "run" / "fold_0", Watch(("mlflow",))) as watching:
            watching.begin({"train": {"epochs": 2}}, [{"epoch": n} for n in range(1, first)])
            watching.epoch(row(first), ["a (left)"], pictures)
            watching.reason = "epochs"
    assert told[0] == ("at", (tmp_path / "run" / "mlruns").as_uri())
    assert [entry for entry in told if entry[0] == "run"] == [("run", "id of run", "fold_0")]
    assert ("param", "7", "train.epochs", "2") in told
    assert ("again", "7", "RUNNING") in told
    assert [entry[4] for entry in told if entry[:3] == ("metric", "7", "dice/a _left_")] == [1, 2]
    assert ("image", "7", (4, 9, 3), "patches/1/epoch_00002.png") in told
    assert told[-1] == ("over", "7", "FINISHED")


def test_a_watcher_that_fails_is_left_out_and_the_run_goes_on(tmp_path: Path, told: list[tuple[Any, ...]]) -> None:
    with Watching(tmp_path / "fold_0", Watch(("mlflow",), tracking_uri="http://example.org")) as watching:
        watching.begin({}, [])
        for epoch in (1, 2):
            watching.epoch(row(epoch), ["fails"])
        watching.reason = "epochs"
    assert told[0] == ("at", "http://example.org")
    assert told[-1][0] != "over"
    failed = [event for event in events(tmp_path / "fold_0") if event["event"] == "unwatched"]
    assert [(event["by"], event["error"]) for event in failed] == [("mlflow", "ConnectionError: the server is gone")]
    assert events(tmp_path / "fold_0")[-1]["event"] == "end"


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    with Watching(tmp_path / "fold_0", Watch(("auto",)), active=False) as watching:
        watching.begin({}, [])
        watching.epoch(row(1), ["ball"])
    assert not list(tmp_path.iterdir())


def test_a_picture_shows_what_is_true_and_what_was_found() -> None:
    truth = np.zeros((5, 16, 16), dtype=np.int64)
    truth[3, 4:12, 4:12] = 2
    picture = patch_picture(np.zeros((1, 5, 16, 16)), truth, np.zeros_like(truth), [(255, 0, 0), (0, 0, 255)])
    left, right = picture[:, :256].astype(int), picture[:, -256:].astype(int)
    is_blue = (left[..., 2] > 200) & (left[..., 0] == 0)
    rows, columns = np.nonzero(is_blue)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (64, 191, 64, 191)  # voxels of 16 pixels
    assert not ((right[..., 2] > 0) & (right[..., 0] == 0)).any()  # nothing was found
    assert (right[64, 64:192] == 255).all()  # and this is where it should have been


@pytest.mark.parametrize("shape", [(12, 20), (3, 12, 20)])
def test_pictures_take_slices_and_volumes_and_voxels_to_be_ignored(shape: tuple[int, ...]) -> None:
    picture = patch_picture(np.ones((2, *shape)), np.full(shape, -1), np.ones(shape, int), [(1, 2, 3)])
    assert picture.shape == (12 * 13, 2 * 20 * 13 + 6, 3)


def test_patience_ends_a_run_without_a_better_dice_and_a_longer_one_goes_on(tmp_path: Path) -> None:
    plan = small_plan(epochs=40, patience=2, optimizer={"kind": "sgd", "learning_rate": 1e-12})
    result = _train(plan, tmp_path)
    assert result.epochs == 3  # the first is the best; nothing is learned at such a rate
    assert events(tmp_path)[-1]["reason"] == "patience"
    assert _train(plan, tmp_path, resume=True).epochs == 3
    assert _train(small_plan(epochs=40, patience=3, optimizer=plan.train.optimizer), tmp_path, resume=True).epochs == 4


def test_without_a_dice_patience_does_not_run_out() -> None:
    assert epochs_without_gain([row(n, None) for n in range(9)]) == 0
    assert epochs_without_gain([row(1, 0.9), row(2, 0.1), row(3, None)]) == 1
    assert TrainSettings().watch.names == ()

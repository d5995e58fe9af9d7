"""MLflow: numbers, pictures and settings of a fold as one of its runs."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from medseg.io.atomic import write_text
from medseg.training.events import flat

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

_NOT_A_NAME = re.compile(r"[^\w\-. /]")  # what MLflow refuses in the name of a metric
_MOST_LETTERS = 500  # of a parameter, in all of its stores
_STATUS = {"stopped": "KILLED", "failed": "FAILED"}


class MLflow:
    """One run of MLflow, which a resumed fold goes on with; ``mlflow.json`` in the fold's folder keeps its id.

    The client is told everything itself, so no state of the process changes.

    Parameters
    ----------
    folder : Path
        The fold's folder. The run is called after it, the experiment after the folder above.
    tracking_uri : str or None
        Where runs are kept; files in ``mlruns`` beside the fold's folder by default.
    about : mapping
        What to keep as parameters of the run.
    """

    def __init__(self, folder: Path, tracking_uri: str | None, about: Mapping[str, Any]) -> None:
        from mlflow import MlflowClient  # noqa: PLC0415 - an extra, loaded when it is wanted

        place = folder.resolve()
        self._client = MlflowClient(tracking_uri=tracking_uri or (place.parent / "mlruns").as_uri())
        note = folder / "mlflow.json"
        if note.is_file():
            self._run = str(json.loads(note.read_text(encoding="utf-8"))["run_id"])
            self._client.update_run(self._run, status="RUNNING")
            return
        name = place.parent.name or "medseg"
        known = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if known is None else known.experiment_id
        self._run = str(self._client.create_run(experiment, run_name=place.name).info.run_id)
        for key, value in flat(about).items():
            self._client.log_param(self._run, _name(key), str(value)[:_MOST_LETTERS])
        write_text(note, json.dumps({"run_id": self._run}) + "\n")

    def numbers(self, epoch: int, values: Mapping[str, float], /) -> None:
        """Log metrics with the epoch as their step."""
        for name, value in values.items():
            self._client.log_metric(self._run, _name(name), value, step=epoch)

    def picture(self, epoch: int, name: str, pixels: NDArray[np.uint8], /) -> None:
        """Log a picture as a file of the run."""
        self._client.log_image(self._run, pixels, artifact_file=f"{_name(name)}/epoch_{epoch:05d}.png")

    def close(self, reason: str, /) -> None:
        """End the run with a status."""
        self._client.set_terminated(self._run, status=_STATUS.get(reason, "FINISHED"))


def _name(name: str) -> str:
    return _NOT_A_NAME.sub("_", name)

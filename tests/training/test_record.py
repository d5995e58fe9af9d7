from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from medseg.training.record import EpochRow, write_log

if TYPE_CHECKING:
    from pathlib import Path


def test_log_has_a_row_per_epoch_and_a_column_per_label(tmp_path: Path) -> None:
    rows = [
        EpochRow(1, 100, 12.34, learning_rate=2e-3, loss=0.51, dice=(0.8, None)),
        EpochRow(2, 200, 24.0, learning_rate=1e-3, loss=0.25, dice=(0.8, 0.9)),
        EpochRow(3, 300, 36.0, learning_rate=1e-3, loss=0.2),
    ]
    write_log(tmp_path / "log.csv", rows, ["liver, left", "spleen"])
    with (tmp_path / "log.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["epoch"] for row in read] == ["1", "2", "3"]
    assert [row["dice"] for row in read] == ["0.8000", "0.8500", ""]
    assert [row["dice_liver, left"] for row in read] == ["0.8000", "0.8000", ""]
    assert [row["dice_spleen"] for row in read] == ["", "0.9000", ""]
    assert float(read[1]["learning_rate"]) == 1e-3


def test_a_row_survives_its_plain_values() -> None:
    row = EpochRow(2, 200, 24.0, learning_rate=1e-3, loss=0.25, dice=(0.5, None))
    assert EpochRow.from_state(row.to_state()) == row
    assert row.mean_dice == 0.5
    assert EpochRow(1, 1, 1.0, learning_rate=1.0, loss=1.0, dice=(None,)).mean_dice is None

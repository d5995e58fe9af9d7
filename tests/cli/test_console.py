"""What people see while work goes on: a line a milestone in a file, bars and one note on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from medseg.cli import console
from medseg.cli.console import Printer
from medseg.progress import Step


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(console, "time", clock)
    return clock


def test_a_file_gets_one_line_an_epoch_with_the_time_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Printer().progress() as progress:
        for step in range(1, 7):
            clock.now += 20.0
            progress(Step("train", step, 9, f"step {step}", milestone=False))
            if step % 3 == 0:
                progress(Step("train", step, 9, f"epoch {step // 3}", milestone=True))
    assert capsys.readouterr().err.splitlines() == [
        "train 3/9 epoch 1, ETA 0:02:00",
        "train 6/9 epoch 2, ETA 0:01:00",
    ]


def test_other_work_gets_a_line_now_and_then(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Printer().progress() as progress:
        for case in range(1, 5):
            progress(Step("read", case, 4, f"case {case}"))
            clock.now += 8.0
        progress(Step("write", 1, 1))
    assert capsys.readouterr().err.splitlines() == ["read 1/4 case 1", "read 3/4 case 3", "write 1/1"]


def test_a_narrow_terminal_shows_bars_and_under_them_what_is_done_now() -> None:
    printer, screen = Printer(), io.StringIO()
    printer._errors = Console(file=screen, force_terminal=True, width=80, color_system=None)
    with printer.progress() as progress:
        progress(Step("prepare", 4, 4, "case_3"))
        progress(Step("train", 50, 100, "epoch 3, 4.1 it/s, loss 0.312, Dice 0.810 (liver 0.9, spleen 0.72)"))
    last = screen.getvalue().split("\x1b[2K")[-1]
    assert "prepare" in last
    assert "50/100" in last
    assert "Dice 0.810 (liver 0.9, spleen 0.72)" in last
    assert "case_3" not in last

"""What people see: progress bars, tables and sentences, on stderr wherever stdout belongs to a program."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.progress import TaskID

    from medseg.progress import Progress, Step

_ENDLESS_WIDTH = 1000
_QUIET_SECONDS = 15.0  # between two progress lines where there is no terminal


class Printer:
    """Tables and sentences for people, JSON for programs.

    With `as_json`, stdout carries exactly one JSON document and people's text goes to stderr.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self._as_json = as_json
        self._people = _console(stderr=as_json)
        self._errors = _console(stderr=True)

    def say(self, text: str = "") -> None:
        """Print a sentence for people."""
        self._people.print(Text(text))

    def fail(self, text: str) -> None:
        """Print an error for people."""
        self._errors.print(Text.assemble(("medseg: ", "bold red"), text))

    def document(self, value: object) -> None:
        """Print the one JSON document, where it was asked for."""
        if self._as_json:
            print(json.dumps(value, indent=1, allow_nan=False))  # noqa: T201 - the program's one output

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print a table for people; numbers to the right."""
        table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
        cells = [[_cell(value) for value in row] for row in rows]
        for index, column in enumerate(columns):
            numeric = bool(cells) and all(row[index][1] for row in cells)
            table.add_column(
                column, justify="right" if numeric else "left", overflow="fold", no_wrap=not self._people.is_terminal
            )
        for row in cells:
            table.add_row(*(Text(text) for text, _ in row))
        self._people.print(table)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Yield a `Progress` callable that draws bars on stderr, or prints lines where that is no terminal."""
        if not self._errors.is_terminal:
            yield _Lines(self._errors)
            return
        columns = (
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with _NotedBars(*columns, console=self._errors) as bars:
            yield _Bars(bars)


class _NotedBars(Bars):
    """Bars, and under them one line about what is being done now: beside a bar it would be cut off."""

    note = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.note:
            yield Text(f"  {self.note}", style="dim", no_wrap=True, overflow="ellipsis")


class _Bars:
    def __init__(self, bars: _NotedBars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: Step, /) -> None:
        if step.stage not in self._tasks:
            self._tasks[step.stage] = self._bars.add_task(step.stage, total=step.total or None)
        self._bars.note = step.message
        self._bars.update(self._tasks[step.stage], completed=step.done, total=step.total or None)


class _Lines:
    """A line for each milestone where work has such, with the time left; else one now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage = ""
        self._last = 0.0
        self._began, self._from = 0.0, 0

    def __call__(self, step: Step, /) -> None:
        now = time.monotonic()
        is_new = step.stage != self._stage or step.done < self._from
        if is_new:
            self._stage, self._began, self._from = step.stage, now, step.done
        is_due = is_new or now - self._last >= _QUIET_SECONDS
        if step.milestone is False or (step.milestone is None and not is_due):
            return
        self._last = now
        amount = f" {step.done}/{step.total}" if step.total else ""
        left = self._left(step, now) if step.milestone else ""
        self._console.print(Text(f"{step.stage}{amount} {step.message}{left}".rstrip()))

    def _left(self, step: Step, now: float) -> str:
        """Return the time left at the pace so far; nothing where there is no pace yet, or no more to do."""
        done, left = step.done - self._from, step.total - step.done
        if done <= 0 or left <= 0:
            return ""
        seconds = round((now - self._began) / done * left)
        return f", ETA {timedelta(seconds=seconds)}"


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, soft_wrap=True)
    if not console.is_terminal:  # a file or a pipe has no right edge
        console.width = _ENDLESS_WIDTH
    return console


def _cell(value: Any) -> tuple[str, bool]:
    if value is None:
        return "–", True
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}", True
    return str(value), isinstance(value, int)

"""Worker processes: they cut patches from the memory maps and vary them, and give them back through shared memory.

The parent decides everything: which patch, varied by which seed, into which row of which batch. These few numbers go
through a pipe; the patches themselves lie in memory that parent and workers share, and are never pickled. Processes are
spawned, not forked: that is safe beside threads and CUDA, and the same on every platform.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
import traceback
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import multiprocessing

from medseg.errors import InputError, MedsegError, PlanError
from medseg.inference import hardware
from medseg.transforms.augment import Augmentation, plain_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from torch import Tensor

    from medseg.plan import Plan
    from medseg.training.patches import Cut, Cutter

SILENCE_S = 600.0
"""A batch that takes longer than this is given up: a disk that hangs, or a worker that waits for ever."""
WORKER_BYTES = 550_000_000
"""What a worker was measured to hold (resident): Python, PyTorch and MONAI."""
MOST = 12
_CORES_PER_WORKER = 4  # on a CPU, whose cores the network computes on
_READY = -1
_SINGLE = "; patches are made in the training process"


class Task(NamedTuple):
    """A patch to be made: where from, varied how, and where to."""

    cut: Cut
    seed: int
    slot: int
    row: int


class Board(NamedTuple):
    """What parent and workers share: images (slots, N, C, *patch), labels (slots, N, *patch), each worker's case."""

    images: Tensor
    labels: Tensor
    doing: Tensor


class _Worker(NamedTuple):
    process: SpawnProcess
    pipe: Connection


class WorkersNotStarted(Exception):  # noqa: N818 - no error: the feed goes on without them
    """Worker processes cannot be had here; the message is a sentence for the person."""


class Workers:
    """A few processes that fill batches in shared memory.

    Parameters
    ----------
    count : int
        Processes.
    cutter : Cutter
        Reads the patches.
    plan : Plan
        Says batch, patch and augmentation.
    slots : int
        Batches that there is room for.

    Raises
    ------
    WorkersNotStarted
        Where there is no shared memory, or no process can be started.
    """

    def __init__(self, count: int, cutter: Cutter, plan: Plan, *, slots: int) -> None:
        self._cases = [case.id for case in cutter.cases]
        self._workers: list[_Worker] = []
        self._left: dict[int, set[int]] = {}  # of each slot under way, the rows that are missing
        self._load = [0] * count
        self._ready: set[int] = set()
        try:
            self._board = _board(count, cutter, plan, slots)
            for number in range(count):
                self._workers.append(self._start(number, cutter, plan))
        except (OSError, RuntimeError, AssertionError, EOFError) as error:  # no shared memory; no process more
            self.end()
            raise WorkersNotStarted(f"no worker process can be started ({_words(error)}){_SINGLE}") from error

    def _start(self, number: int, cutter: Cutter, plan: Plan) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, number, cutter, plan, self._board)
        process = context.Process(target=work, args=arguments, name=f"medseg-worker-{number}", daemon=True)
        with _ctrl_c_ignored():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes' numbers."""
        return tuple(worker.process.pid or 0 for worker in self._workers)

    def are_ready(self, *, timeout_s: float = 0.0) -> bool:
        """Tell whether all have begun; starting takes seconds, and the training need not wait for it.

        Raises
        ------
        WorkersNotStarted
            Where one ended before it had begun.
        """
        deadline = time.monotonic() + timeout_s
        while len(self._ready) < len(self._workers):
            heard = self._hear(max(0.0, deadline - time.monotonic()))
            dead = self._first_dead()
            if dead is not None:
                raise WorkersNotStarted(f"a worker process ended as it began ({_end_of(dead)}){_SINGLE}")
            if not heard:
                return False
        return True

    def ask(self, tasks: Sequence[Task]) -> None:
        """Hand out the rows of one batch, each to the process with the least to do."""
        self._left[tasks[0].slot] = {task.row for task in tasks}
        for task in tasks:
            number = min(range(len(self._workers)), key=self._load.__getitem__)
            self._load[number] += 1
            with contextlib.suppress(OSError):  # it died: `collect` says so
                self._workers[number].pipe.send(task)

    def collect(self, slot: int) -> tuple[Tensor, Tensor]:
        """Return images and labels of a slot when they are whole, in shared memory.

        Raises
        ------
        PlanError
            Where a process died or none says anything for `SILENCE_S`.
        MedsegError
            What went wrong in one, with the case it happened in.
        """
        self._hear(0.0)
        self._require_all()
        while self._left[slot]:
            if not self._hear(SILENCE_S):
                raise PlanError(
                    f"no worker gave a patch for {SILENCE_S:.0f} s",
                    expected="one in a fraction of that",
                    where=", ".join(sorted(self._at_work())),
                    remedy="Look whether the disk of the run folder answers; then go on with --resume",
                )
            self._require_all()
        del self._left[slot]
        return self._board.images[slot], self._board.labels[slot]

    def end(self) -> None:
        """End all processes, and wait until they are gone; they hold nothing that could be lost."""
        for worker in self._workers:
            worker.pipe.close()
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.process.close()
        self._workers.clear()

    def _hear(self, timeout_s: float) -> bool:
        """Take note of what workers say; wait for a word or a death. False where there was neither."""
        pipes = {worker.pipe: number for number, worker in enumerate(self._workers)}
        heard = wait([*pipes, *(worker.process.sentinel for worker in self._workers)], timeout_s)
        for item in heard:
            if item in pipes:
                with contextlib.suppress(EOFError, OSError):  # it died: its sentinel says so, too
                    self._note(pipes[item], item.recv())
        return bool(heard)

    def _note(self, number: int, answer: Any) -> None:
        if answer == _READY:
            self._ready.add(number)
            return
        slot, row, fault = answer
        if fault is not None:
            raise fault.error() from ErrorInWorkerError(fault.trace)
        self._load[number] -= 1
        self._left[slot].discard(row)

    def _first_dead(self) -> SpawnProcess | None:
        return next((worker.process for worker in self._workers if not worker.process.is_alive()), None)

    def _require_all(self) -> None:
        dead = self._first_dead()
        if dead is None:
            return
        number = next(i for i, worker in enumerate(self._workers) if worker.process is dead)
        case = int(self._board.doing[number])
        raise PlanError(
            f"worker {number + 1} of {len(self._workers)}, a process that makes patches, {_end_of(dead)}",
            expected="one that lives as long as the training",
            where=self._cases[case] if case >= 0 else "",
            remedy="Memory ran out? Go on with --resume and fewer workers, or --workers 0",
        )

    def _at_work(self) -> set[str]:
        return {self._cases[case] for case in self._board.doing.tolist() if case >= 0}


class Fault(NamedTuple):
    """An error in a worker, as words that go through a pipe."""

    kind: type[MedsegError]
    parts: dict[str, str]
    trace: str

    def error(self) -> MedsegError:
        """Return the error, for the parent to raise."""
        return self.kind(**self.parts)


class ErrorInWorkerError(Exception):
    """The traceback of an error in a worker: the cause of the error that the parent raises."""

    def __str__(self) -> str:
        """Return it as Python prints it."""
        return f"\n{self.args[0]}"


def how_many(asked: int | Literal["auto"], plan: Plan, *, device: str, processes: int = 1) -> int:
    """Return how many workers a training process starts.

    Left to itself: beside a GPU all cores but one, at most twelve; on a CPU one for four cores, as the network computes
    on the same ones; no more than half of the free memory holds; none where fewer than four cores are there.

    Parameters
    ----------
    asked : int or "auto"
        A number is taken as it is.
    plan : Plan
        Says how large batches are.
    device : str
        ``cpu`` or ``cuda``.
    processes : int
        Training processes that share this machine.
    """
    if asked != "auto":
        return asked
    cores = hardware.usable_cores() // processes
    if cores < _CORES_PER_WORKER:
        return 0
    batch = 8 * len(plan.channels) * math.prod(plan.train.patch_size) * plan.train.batch_size
    memory = hardware.free_memory_bytes("cpu") // 2 // processes // (WORKER_BYTES + 2 * batch)
    return int(min(MOST, memory, cores // _CORES_PER_WORKER if device == "cpu" else cores - 1))


def work(pipe: Connection, number: int, cutter: Cutter, plan: Plan, board: Board) -> None:
    """Make patches until the pipe ends: what runs in a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes the pipe
    torch.set_num_threads(1)
    augment = Augmentation(plan)
    with plain_tensors(), contextlib.suppress(EOFError, OSError):  # the parent is gone, or wants no more
        pipe.send(_READY)
        while True:
            task: Task = pipe.recv()
            board.doing[number] = task.cut.case
            fault = _made(task, cutter, augment, board)
            board.doing[number] = -1
            pipe.send((task.slot, task.row, fault))


def _made(task: Task, cutter: Cutter, augment: Augmentation, board: Board) -> Fault | None:
    """Put a patch into its place; return what went wrong, if anything did."""
    try:
        image, label = augment(*cutter(task.cut), seed=task.seed)
        board.images[task.slot, task.row] = image
        board.labels[task.slot, task.row] = label
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent tells the person
        return _fault(error, cutter.cases[task.cut.case].id)
    return None


def _fault(error: Exception, case: str) -> Fault:
    trace = traceback.format_exc()
    if isinstance(error, MedsegError):
        told = error.at(case)
        names = ("found", "expected", "where", "remedy", "code")
        return Fault(type(told), {name: getattr(told, name) for name in names}, trace)
    parts = {
        "found": f"a patch could not be made ({_words(error)})",
        "expected": "a patch of the prepared case",
        "where": case,
        "remedy": "Train with --workers 0 --debug to see where; go on with --resume",
    }
    return Fault(InputError, parts, trace)


def _words(error: BaseException) -> str:
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


def _end_of(process: SpawnProcess) -> str:
    """Return how a process ended."""
    process.join(1.0)
    code = process.exitcode
    if code is not None and code < 0:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    return f"ended with code {code}"


def _board(count: int, cutter: Cutter, plan: Plan, slots: int) -> Board:
    rows = (slots, plan.train.batch_size)
    board = Board(
        torch.zeros((*rows, cutter.channels, *plan.spatial_patch)),
        torch.from_numpy(np.zeros((*rows, *plan.spatial_patch), cutter.label_type)),
        torch.full((count,), -1, dtype=torch.int64),
    )
    for tensor in board:
        tensor.share_memory_()  # type: ignore[no-untyped-call]  # torch's own
    return board


@contextlib.contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Let a process that is started meanwhile be deaf to Ctrl-C from its first moment."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

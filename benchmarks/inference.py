"""Segmenting side by side: the same weights on the same scan by medseg, nnU-Net and MONAI, each in its own process.

Usage: python benchmarks/inference.py [--quick] [--only ROW,...] [--rounds 3] [--nnunet-python PYTHON]

Prints a table in Markdown. Programs take turns within each round; seconds and memory are medians over the rounds.

  memory-3, memory-14   scan in memory to mask in memory, nnU-Net's default network of 31 M weights
  files-3, files-14     whole commands, file to file
  rest-3, rest-14       a stand-in network that costs nearly nothing: everything else
  classes-105           the same with 105 classes; other programs may take 17 GB of addresses, as much as fits a machine
  labels                agreement with sums over all windows in double precision, and with flat weights as the control
  slices                peak memory of scans of other lengths, lean
  max-ram               memory of the whole command under `--max-ram`
  limit                 share of what this machine's matrix product would reach
  scores                a GPU only: scores added up on the card, and in main memory
  first                 what only the first case costs
  batch                 eight files, with and without reading and writing beside the network

On a GPU a process segments twice, and the second time counts: the first one sets the card up.

`growth` is the peak of resident memory beyond what was held with programs imported, weights loaded and the scan in
memory; `peak` is all of it, of a whole command with its child processes. medseg keeps freed memory for itself, as its
command does; `lean` gives it back, as under `--max-ram`. nnU-Net lies in an environment of its own
(`pip install nnunetv2==2.8.1`), named by --nnunet-python; without it its rows say "not run".
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from side_by_side import cases, children, limit, reference
from side_by_side.measured import StandIn
from side_by_side.table import HEAD, agreement, likeness, middle, times, told

from medseg.inference import describe_machine, resolve_device, resolve_precision
from medseg.model import load_model
from medseg.preprocess import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


ADDRESSES = 17_000_000_000
BATCH = 8
TOLERANCE = 1e-3  # of the largest score, between our network and nnU-Net's
PROGRAMS = ("medseg", "nnU-Net", "MONAI")
LEAN = "medseg, lean"
MODULES = {"medseg": "by_medseg", LEAN: "by_medseg", "nnU-Net": "by_nnunet", "MONAI": "by_monai"}
NNUNET = "from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder as go; go()"


@dataclass(frozen=True)
class Asked:
    """What is measured, with what, and where files lie."""

    size: cases.Size
    folder: Path
    rounds: int = 1
    steps: int = 10
    nnunet: str | None = None
    device: str = "cpu"
    precision: str = "fp32"

    def python(self, program: str) -> str | None:
        """Return the interpreter of a program, or None where it is not there."""
        return self.nnunet if program == "nnU-Net" else sys.executable

    def model(self, program: str, classes: int) -> Path:
        """Return a program's model folder, made now where it is not there; nnU-Net's is compared with ours."""
        ours = cases.make_model(self.size, classes, self.steps, self.folder)
        if program != "nnU-Net":
            return ours
        theirs = self.folder / f"nnunet-{classes}-{self.steps}"
        if not (theirs / "fold_0").exists():
            converted(self, ours, theirs, classes)
        return theirs

    def job(self, program: str, classes: int, *, network: bool, scan: str = "scan") -> dict[str, Any]:
        """Return what a child process is told."""
        return {
            "kind": "segment",
            "folder": str(self.folder),
            "scan": scan,
            "mask": str(self.folder / f"{program}-{classes}-{network}-{scan}.npy"),
            "model": str(self.model(program, classes)) if network else None,
            "size": self.size.name,
            "classes": classes,
            "about": cases.as_json(self.size, classes),
            "device": self.device,
            "precision": self.precision,
            "keeps": program == "medseg",
            "times": 1 if self.device == "cpu" else 2,
        }


def converted(asked: Asked, ours: Path, theirs: Path, classes: int) -> None:
    """Write nnU-Net's model folder with our weights, and stop where one window's scores differ."""
    network = load_model(ours).network(0)
    window = torch.randn(1, 1, *(min(asked.size.patch, 64),) * 3, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        scores = network(window)
    np.save(asked.folder / "window.npy", window.numpy())
    np.save(asked.folder / "scores.npy", scores.numpy())
    torch.save(network.state_dict(), asked.folder / "weights.pt")
    job = {
        "kind": "convert",
        "out": str(theirs),
        "about": cases.as_json(asked.size, classes),
        "weights": str(asked.folder / "weights.pt"),
        "window": str(asked.folder / "window.npy"),
        "scores": str(asked.folder / "scores.npy"),
    }
    answer = children.ask("by_nnunet", job, python=asked.nnunet or sys.executable)
    if "failed" in answer or answer["difference"] > TOLERANCE * answer["size"]:
        shutil.rmtree(theirs, ignore_errors=True)
        raise SystemExit(f"nnU-Net's network is not ours: {answer}")


def in_turns(
    asked: Asked, work: Callable[[str], dict[str, Any]], programs: Sequence[str] = PROGRAMS
) -> dict[str, list[dict[str, Any]]]:
    """Return what every program that is there answered, round by round; one that failed is not asked again."""
    there = [name for name in programs if asked.python(name)]
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in there}
    for _ in range(asked.rounds):
        for name in there:
            if not any("failed" in answer for answer in answers[name]):
                answers[name].append(work(name))
    return answers


def compared(row: str, answers: dict[str, list[dict[str, Any]]], remarks: dict[str, str]) -> Iterator[str]:
    """Yield a row for every program, and what the others take as multiples of ours."""
    ours = answers["medseg"]
    for name in (*answers, *(name for name in PROGRAMS if name not in answers)):
        runs = answers.get(name)
        if not runs:
            yield told(row, name, *[""] * 5, "not run")
        elif "failed" in runs[-1]:
            yield told(row, name, *[""] * 5, f"fails: {runs[-1]['failed']}")
        else:
            seconds, network = middle(runs, "seconds"), middle(runs, "network")
            words = [remarks.get(name, "")]
            if MODULES[name] != "by_medseg" and "failed" not in ours[-1]:
                words.insert(0, times(runs, ours))
            if "vram_mb" in runs[0]:
                words.append(f"VRAM {middle(runs, 'vram_mb'):.0f} MB")
            memory = (middle(runs, "growth_mb"), middle(runs, "peak_mb"))
            yield told(row, name, seconds, network, seconds - network, *memory, "; ".join(filter(None, words)))


def memory(asked: Asked, row: str, classes: int, *, network: bool = True) -> Iterator[str]:
    """Yield rows from scan in memory to mask in memory."""
    bound = ADDRESSES if classes > 100 else None

    def once(program: str) -> dict[str, Any]:
        job = asked.job(program, classes, network=network)
        python = asked.python(program) or ""
        confined = None if MODULES[program] == "by_medseg" else bound
        answer = children.ask(MODULES[program], job, python=python, limit_bytes=confined)
        if "failed" in answer:
            return answer
        return answer["runs"][-1] | {"mask": job["mask"], "growth_mb": answer["runs"][0]["growth_mb"]}

    answers = in_turns(asked, once, PROGRAMS if network else (*PROGRAMS, LEAN))
    yield from compared(row, answers, likeness(answers))


def files(asked: Asked, row: str, classes: int) -> Iterator[str]:
    """Yield rows of whole commands; a command's growth is all it holds, as nothing is held before."""

    def once(program: str) -> dict[str, Any]:
        ended = children.run(command_of(asked, program, classes))
        if ended.code:
            return {"failed": ended.words.splitlines()[-1] if ended.words else f"exit code {ended.code}"}
        unknown = float("nan")
        return {"seconds": ended.seconds, "network": unknown, "growth_mb": unknown, "peak_mb": ended.peak_mb}

    yield from compared(row, in_turns(asked, once), {})


def command_of(asked: Asked, program: str, classes: int, *more: str) -> list[str]:
    """Return the command that segments the scan's file."""
    scan, out = asked.folder / "scan.nii.gz", asked.folder / f"out-{program}"
    shutil.rmtree(out, ignore_errors=True)
    model, python = asked.model(program, classes), asked.python(program) or ""
    if program == "medseg":
        words = ["-m", "medseg", "segment", str(model), str(scan), "-o", str(out), "--precision", asked.precision]
        return [python, *words, "--device", asked.device, *more]
    if program == "nnU-Net":
        inputs = asked.folder / "nnunet-inputs"
        inputs.mkdir(exist_ok=True)
        shutil.copyfile(scan, inputs / "scan_0000.nii.gz")
        words = ["-i", str(inputs), "-o", str(out), "-m", str(model), "-f", "0", "--disable_tta"]
        return [python, "-c", NNUNET, *words, "-device", asked.device, "-npp", "1", "-nps", "1"]
    job = asked.job(program, classes, network=True) | {"files": True, "mask": str(asked.folder / "monai.nii.gz")}
    question = asked.folder / "monai-job.json"
    question.write_text(children.json.dumps(job), encoding="utf-8")
    return [python, "-m", "side_by_side.by_monai", str(question), str(asked.folder / "monai-answer.json")]


def labels(asked: Asked) -> Iterator[str]:
    """Yield how far our labels are those of the reference: a stand-in network everywhere, the real one on a crop."""
    scan = cases.load_scan(asked.folder)
    whole = [slice(0, n) for n in scan.array.shape[1:]]
    crop = [slice(n // 2 - n // 8, n // 2 + n // 8) for n in scan.array.shape[1:]]
    rounds = [("stand-in, 3 classes", 3, False, whole), ("network, 3 classes, a crop", 3, True, crop)]
    rounds.append(("stand-in, 105 classes, a crop", 105, False, crop))
    for words, classes, network, part in rounds:
        job = asked.job("medseg", classes, network=network)
        answer = children.ask("by_medseg", job, python=sys.executable)
        if "failed" in answer:
            yield told("labels", "medseg", *[""] * 5, f"{words}: fails: {answer['failed']}")
            continue
        predict = load_model(Path(job["model"])).network(0) if network else StandIn(classes)
        image = prepare(scan, cases.make_plan(asked.size, classes))
        ours = np.load(job["mask"])[tuple(part)]
        same, control = (
            agreement(
                ours, reference.labels_of(predict, image, scan.geometry, patch=asked.size.patch, crop=part, flat=f)
            )
            for f in (False, True)
        )
        yield told("labels", "medseg", *[""] * 5, f"{words}: {same}; control: {control}")


def slices(asked: Asked) -> Iterator[str]:
    """Yield peak memory by the number of slices; what input and output take is told apart."""
    scan = cases.load_scan(asked.folder)
    for count in asked.size.slices:
        cases.save_scan(cases.stretched(scan, count), asked.folder, "long")
        answer = children.ask("by_medseg", asked.job(LEAN, 3, network=False, scan="long"), python=sys.executable)
        if "failed" in answer:
            yield told("slices", "medseg", *[""] * 5, f"{count} slices: fails: {answer['failed']}")
            continue
        run = answer["runs"][0]
        mask_mb = np.load(asked.folder / f"{LEAN}-3-False-long.npy", mmap_mode="r").nbytes / 1e6
        words = f"{count} slices; scan and mask {answer['arrays_mb']:.0f} MB; growth beyond the mask"
        rest, growth = run["seconds"] - run["network"], run["growth_mb"] - mask_mb
        yield told("slices", "medseg", run["seconds"], run["network"], rest, growth, run["peak_mb"], words)


def max_ram(asked: Asked) -> Iterator[str]:
    """Yield the memory of whole commands that were told how much they may take."""
    offered = children.run([sys.executable, "-m", "medseg", "segment", "--help"]).words
    for classes, bound in ((14, "3GB"), (105, "8GB")):
        if "--max-ram" not in offered:
            yield told("max-ram", "medseg", *[""] * 5, f"{classes} classes, --max-ram {bound}: not available")
            continue
        ended = children.run(command_of(asked, "medseg", classes, "--max-ram", bound))
        words = f"{classes} classes, --max-ram {bound}, exit code {ended.code}"
        yield told("max-ram", "medseg", ended.seconds, "", "", "", ended.peak_mb, words)


def share(asked: Asked) -> Iterator[str]:
    """Yield the share of the machine's limit that a whole case reaches, scan to mask."""
    plan = cases.make_plan(asked.size, 3)
    each, windows = limit.operations(plan, asked.size)
    rate = limit.matmul_rate(asked.precision, side=32 * asked.size.patch, device=asked.device)
    job = asked.job("medseg", 3, network=True)
    answer = children.ask("by_medseg", job, python=sys.executable)
    least = each * windows / rate
    words = f"{windows} windows of {each / 1e9:.0f} GFLOP at {rate / 1e9:.0f} GFLOP/s in {asked.precision}"
    if "failed" in answer:
        yield told("limit", "medseg", *[""] * 5, f"{words}; fails: {answer['failed']}")
        return
    run = answer["runs"][-1]
    of_limit = f"{100 * least / run['seconds']:.0f} % of the limit of {least:.3g} s"
    of_network = f"the network alone {100 * least / run['network']:.0f} %"
    yield told("limit", "medseg", run["seconds"], run["network"], "", "", "", f"{of_limit}, {of_network}; {words}")


def scores(asked: Asked) -> Iterator[str]:
    """Yield what adding up scores on the card gains; masks must be the same."""
    if asked.device == "cpu":
        yield told("scores", "medseg", *[""] * 5, "not run: there is no card")
        return
    masks = []
    for words, place in (("on the card", asked.device), ("in main memory", "cpu")):
        job = asked.job("medseg", 14, network=True) | {"scores_on": place}
        answer = children.ask("by_medseg", job, python=sys.executable)
        if "failed" in answer:
            yield told("scores", "medseg", *[""] * 5, f"{words}: fails: {answer['failed']}")
            return
        run = answer["runs"][-1]
        masks.append(np.load(job["mask"]))
        remark = f"14 classes, {words}, VRAM {run['vram_mb']:.0f} MB; {agreement(masks[0], masks[-1])}"
        memory = (answer["runs"][0]["growth_mb"], run["peak_mb"])
        rest = run["seconds"] - run["network"]
        yield told("scores", "medseg", run["seconds"], run["network"], rest, *memory, remark)


def first(asked: Asked) -> Iterator[str]:
    """Yield what only the first case costs: importing, loading, and the first of two scans of one window."""
    scan = cases.load_scan(asked.folder)
    cases.save_scan(cases.stretched(scan, max(8, asked.size.native[0] // 4)), asked.folder, "short")
    job = asked.job("medseg", 3, network=True, scan="short") | {"times": 3}
    answer = children.ask("by_medseg", job, python=sys.executable)
    if "failed" in answer:
        yield told("first", "medseg", *[""] * 5, f"fails: {answer['failed']}")
        return
    one, *later = (run["seconds"] for run in answer["runs"])
    words = (
        f"import {answer['import_s']:.1f} s, model {answer['load_s']:.1f} s, then {one:.1f} s; later {later[-1]:.1f} s"
    )
    yield told("first", "medseg", one - later[-1], "", "", "", "", words)


def batch(asked: Asked) -> Iterator[str]:
    """Yield the time of a batch of equal scans, one after the other and with the next read and the last written."""
    inputs = asked.folder / "batch"
    inputs.mkdir(exist_ok=True)
    for n in range(BATCH):
        shutil.copyfile(asked.folder / "scan.nii.gz", inputs / f"scan{n}.nii.gz")
    found: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(asked.rounds):
        for ahead, seconds in found.items():
            job = asked.job("medseg", 3, network=True) | {"kind": "batch", "inputs": str(inputs), "ahead": ahead}
            answer = children.ask("by_medseg", job | {"out": str(asked.folder / "out-batch")}, python=sys.executable)
            seconds.append(answer.get("seconds", float("nan")))
    alone, overlapping = (statistics.median(seconds) for seconds in found.values())
    yield told("batch", "medseg", alone, *[""] * 5, f"{BATCH} scans, one after the other")
    words = f"{BATCH} scans, reading and writing beside the network: {alone / overlapping:.2f} x as fast"
    yield told("batch", "medseg", overlapping, *[""] * 5, words)


ROWS: dict[str, Callable[[Asked], Iterator[str]]] = {
    "memory-3": lambda asked: memory(asked, "memory-3", 3),
    "memory-14": lambda asked: memory(asked, "memory-14", 14),
    "files-3": lambda asked: files(asked, "files-3", 3),
    "files-14": lambda asked: files(asked, "files-14", 14),
    "rest-3": lambda asked: memory(asked, "rest-3", 3, network=False),
    "rest-14": lambda asked: memory(asked, "rest-14", 14, network=False),
    "classes-105": lambda asked: memory(asked, "classes-105", 105, network=False),
    "labels": labels,
    "slices": slices,
    "max-ram": max_ram,
    "limit": share,
    "scores": scores,
    "first": first,
    "batch": batch,
}
QUICK_ROWS = ("memory-3", "rest-14", "limit")  # a minute or so on an idle machine


def table(asked: Asked, rows: Sequence[str]) -> Iterator[str]:
    """Yield the table line by line, as it is measured."""
    asked.folder.mkdir(parents=True, exist_ok=True)
    if not (asked.folder / "scan.npy").exists():
        cases.save_scan(cases.make_scan(asked.size), asked.folder)
    native, working = (" x ".join(map(str, shape)) for shape in (asked.size.native, asked.size.working))
    machine = "; ".join(f"{name}: {words}" for name, words in describe_machine().items())
    yield f"Scan {native}, network's grid {working}, windows of {asked.size.patch}, {asked.precision} on"
    yield f"{asked.device}, medians of {asked.rounds}. PyTorch {torch.__version__}; {machine}\n"
    yield HEAD
    for row in rows:
        yield from ROWS[row](asked)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a small scan and network, one round")
    parser.add_argument("--only", help="rows, separated by commas; all of them, or three with --quick")
    parser.add_argument("--rounds", type=int, default=0, help="3, or 1 with --quick")
    parser.add_argument("--train-steps", type=int, default=0, help="of the network, before all: 40, or 10 with --quick")
    parser.add_argument("--nnunet-python", help="the interpreter of an environment that holds nnU-Net")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--folder", type=Path, help="where scans, weights and masks are kept for the next run")
    said = parser.parse_args()
    rows = said.only.split(",") if said.only else (QUICK_ROWS if said.quick else tuple(ROWS))
    unknown = [row for row in rows if row not in ROWS]
    if unknown:
        parser.error(f"there is no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    size = cases.QUICK if said.quick else cases.FULL
    device = resolve_device(said.device)
    precision = resolve_precision(said.precision, device)
    with tempfile.TemporaryDirectory() as scratch:
        folder = (said.folder or Path(scratch)) / size.name
        rounds = said.rounds or (1 if said.quick else 3)
        steps = said.train_steps or (10 if said.quick else 40)
        asked = Asked(size, folder, rounds, steps, said.nnunet_python, device, precision)
        for line in table(asked, rows):
            print(line, flush=True)


if __name__ == "__main__":
    main()

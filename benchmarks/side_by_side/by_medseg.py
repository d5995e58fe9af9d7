"""medseg in a process of its own: a scan in memory to a mask in memory, as often as asked.

Usage: python -m side_by_side.by_medseg JOB.json ANSWER.json
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()

import numpy as np  # noqa: E402 - importing is timed, too

from medseg.batch import BatchOptions, run_batch  # noqa: E402
from medseg.cli.process import keep_memory  # noqa: E402
from medseg.inference import Segmenter, memory, resolve_path  # noqa: E402
from side_by_side.cases import SIZES, load_scan, make_plan  # noqa: E402
from side_by_side.measured import Clocked, StandIn, answered, spent  # noqa: E402

IMPORTED = time.perf_counter()


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Return what a scan took, each time, or a batch of them."""
    return batch(job) if job["kind"] == "batch" else segment(job)


def segment(job: dict[str, Any]) -> dict[str, Any]:
    """Return what segmenting a scan took, each time."""
    if job["keeps"]:
        keep_memory()
    scan = load_scan(Path(job["folder"]), job["scan"])
    began = time.perf_counter()
    if job["model"]:
        segmenter = Segmenter.load(job["model"], device=job["device"], precision=job["precision"])
        clocked = Clocked(StandIn(2), job["device"])  # never called: a real network is not wrapped
    else:
        size = SIZES[job["size"]]
        path = resolve_path(job["device"], "fp32", patch_voxels=size.patch**3)
        clocked = Clocked(StandIn(job["classes"]).to(job["device"]), job["device"])
        segmenter = Segmenter(make_plan(size, job["classes"]), [clocked], path=replace(path, window_batch=1))
    if "scores_on" in job:  # whatever the card's memory says
        memory._scores_on = lambda *_: job["scores_on"]
    answer: dict[str, Any] = {"import_s": IMPORTED - BEGAN, "load_s": time.perf_counter() - began}
    answer["runs"] = []
    for _ in range(job["times"]):
        result, told = spent(lambda: segmenter.segment(scan), clocked, job["device"])
        told["network"] = told["network"] or result.seconds["network"]
        answer["runs"].append(told | {"steps": result.seconds})
    np.save(job["mask"], result.segmentation.array)
    answer["path"] = segmenter.path.to_json()
    answer["arrays_mb"] = (scan.array.nbytes + result.segmentation.array.nbytes) / 1e6
    return answer


def batch(job: dict[str, Any]) -> dict[str, Any]:
    """Return what a folder of scans took, loaded model to written results."""
    out = Path(job["out"])
    shutil.rmtree(out, ignore_errors=True)
    segmenter = Segmenter.load(job["model"], device=job["device"], precision=job["precision"])
    options = BatchOptions(("nifti", "png"), ahead=job["ahead"])
    began = time.perf_counter()
    manifest = run_batch(lambda _: segmenter, [Path(job["inputs"])], out=out, options=options)
    return {"seconds": time.perf_counter() - began, "done": manifest.counts["done"]}


if __name__ == "__main__":
    answered(work)

"""A child process that does with a damaged file what medseg would, and tells how it went: faults, time, memory.

Run as ``python examiner.py``: each line on stdin is a path, each line on stdout a JSON document. It is a process of
its own, as a crash or a hang of a decoder must not take the test with it, and as its peak memory counts from its start.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import traceback
from pathlib import Path

from medseg.errors import MedsegError
from medseg.io.dicom import inspect_folder, read_seg, read_series
from medseg.io.dicom.rtstruct.reading import rois_of
from medseg.io.dicom.source import Repairs

ADDRESS_SPACE = 8 * 2**30  # a guard for the machine, far above what is allowed
EVERYTHING = Repairs(volume=0, on_irregular="resample", mosaic="split")


def examine(path: Path) -> None:
    """Look at the file as `inspect --deep` does, and read it as whatever it is taken for."""
    for item in inspect_folder(path, deep=True).items:
        if item.kind == "seg":
            _attempt(lambda: read_seg(path))
        elif item.kind == "rtstruct":
            _attempt(lambda: rois_of(path))
        elif item.source is not None:
            _attempt(lambda item=item: read_series(item, repairs=EVERYTHING))


def _attempt(read) -> None:
    try:
        read()
    except MedsegError as error:
        if not str(error).strip():
            raise AssertionError("an error without words") from error


def _peak_mb() -> float:
    """Return the most memory this program held: Linux hands `ru_maxrss` on from whoever started it."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1000
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    """Examine file after file."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    for line in sys.stdin:
        began, fault = time.perf_counter(), ""
        try:
            examine(Path(line.rstrip("\n")))
        except BaseException:  # noqa: BLE001 - whatever comes out is what the test is after
            fault = traceback.format_exc()
        answer = {"fault": fault, "seconds": time.perf_counter() - began, "peak_mb": _peak_mb()}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

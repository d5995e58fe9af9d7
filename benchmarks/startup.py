"""How soon the program answers: the promises are 0.3 s for ``import medseg`` and 0.5 s for ``medseg --help``.

Usage: python benchmarks/startup.py
Each line is the median of seven fresh processes, beside that of a Python that does nothing.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from pydicom.data import get_testdata_file

ROUNDS = 7
PROGRAMS = {
    "python, doing nothing": ["-c", "pass"],
    "import medseg": ["-c", "import medseg"],
    "medseg.Geometry": ["-c", "import medseg; medseg.Geometry"],
    "medseg --help": ["-m", "medseg", "--help"],
    "medseg inspect, one slice": ["-m", "medseg", "inspect", str(get_testdata_file("CT_small.dcm"))],
}


def seconds(arguments: list[str]) -> float:
    """Return the wall time of one fresh process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Print one line per program; interleaved, so that a busy moment hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(ROUNDS):
        for name, arguments in PROGRAMS.items():
            times[name].append(seconds(arguments))
    for name, measured in times.items():
        print(f"{name:26} {statistics.median(measured):6.3f} s")


if __name__ == "__main__":
    main()

"""What a machine offers to a plan: device, memory, cores, and how many operations a second it does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from medseg.errors import PlanError

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


@dataclass(frozen=True, slots=True)
class Resources:
    """What training may use.

    Parameters
    ----------
    device : {"cpu", "cuda"}
        Where the network runs.
    memory_bytes : int
        Memory of that device that training may take: RAM for a CPU.
    cores : int
        CPU cores.
    flops_per_second : float, optional
        Operations per second in training, measured; a cautious guess where it was not.
    """

    device: Literal["cpu", "cuda"]
    memory_bytes: int
    cores: int = 1
    flops_per_second: float | None = None

    def __post_init__(self) -> None:
        """Refuse a machine without memory or cores."""
        if self.memory_bytes < 1 or self.cores < 1:
            raise PlanError(
                f"{self.memory_bytes} bytes and {self.cores} cores were given", expected="at least one each"
            )


def parse_size(text: str) -> int:
    """Return the number of bytes a size such as ``8GB`` (8 * 10^9) or ``8GiB`` (8 * 2^30) means.

    Raises
    ------
    PlanError
        Where the text is no size above zero.

    Examples
    --------
    >>> parse_size("8GB"), parse_size("1.5 GiB"), parse_size("4096")
    (8000000000, 1610612736, 4096)
    """
    match = _SIZE.fullmatch(text)
    size = 0
    if match:
        number, unit, binary = match.groups()
        size = int(float(number) * (1024 if binary else 1000) ** _POWER[unit.lower()])
    if size < 1:
        raise PlanError(f"{text!r} is no size", expected="a number with a unit, such as 8GB or 8GiB")
    return size

"""Planning: measure a data set once, decide everything from it, and say beforehand what it will take.

`fingerprint` reads the data; `resolve` and `estimate` are pure.
"""

from __future__ import annotations

from medseg.planning.cost import Cost, network_cost
from medseg.planning.estimate import Estimate, estimate
from medseg.planning.fingerprint import fingerprint
from medseg.planning.resolve import resolve
from medseg.planning.resources import Resources, parse_size

__all__ = [
    "Cost",
    "Estimate",
    "Resources",
    "estimate",
    "fingerprint",
    "network_cost",
    "parse_size",
    "resolve",
]

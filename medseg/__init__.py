"""medseg: medical image segmentation, from DICOM and NIfTI to masks in the right place.

The public nouns, loaded on first use so that ``import medseg`` costs next to nothing and loads no torch.

Examples
--------
>>> import medseg
>>> medseg.Geometry.__module__
'medseg.geometry'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from medseg import errors
    from medseg.case import Case, Dataset
    from medseg.errors import (
        GeometryError,
        InputError,
        MedsegError,
        MissingExtraError,
        ModelError,
        OutputError,
        PlanError,
    )
    from medseg.geometry import Box, Geometry
    from medseg.inference import Result, Segmenter
    from medseg.io import (
        read,
        read_geometry,
        read_segmentation,
        read_volume,
        write,
        write_segmentation,
        write_volume,
    )
    from medseg.labels import Code, Label, LabelSet
    from medseg.plan import Fingerprint, Plan, Recipe
    from medseg.progress import Cancelled
    from medseg.volume import Segmentation, Volume

_HOMES = {
    "medseg.case": ("Case", "Dataset"),
    "medseg.errors": (
        "GeometryError",
        "InputError",
        "MedsegError",
        "MissingExtraError",
        "ModelError",
        "OutputError",
        "PlanError",
    ),
    "medseg.geometry": ("Box", "Geometry"),
    "medseg.inference": ("Result", "Segmenter"),
    "medseg.io": (
        "read",
        "read_geometry",
        "read_segmentation",
        "read_volume",
        "write",
        "write_segmentation",
        "write_volume",
    ),
    "medseg.labels": ("Code", "Label", "LabelSet"),
    "medseg.plan": ("Fingerprint", "Plan", "Recipe"),
    "medseg.progress": ("Cancelled",),
    "medseg.volume": ("Segmentation", "Volume"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Box",
    "Cancelled",
    "Case",
    "Code",
    "Dataset",
    "Fingerprint",
    "Geometry",
    "GeometryError",
    "InputError",
    "Label",
    "LabelSet",
    "MedsegError",
    "MissingExtraError",
    "ModelError",
    "OutputError",
    "Plan",
    "PlanError",
    "Recipe",
    "Result",
    "Segmentation",
    "Segmenter",
    "Volume",
    "__version__",
    "errors",
    "read",
    "read_geometry",
    "read_segmentation",
    "read_volume",
    "write",
    "write_segmentation",
    "write_volume",
]


def __getattr__(name: str) -> Any:
    """Load a public noun from its room on first use (PEP 562)."""
    if name == "errors":
        return importlib.import_module("medseg.errors")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'medseg' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    """List the public nouns."""
    return sorted(__all__)

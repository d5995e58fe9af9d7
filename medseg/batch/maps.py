"""Maps of a case as files: what the formats ask of the segmenter, how they are written, and that they came back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from medseg.inference.maps import MAPS
from medseg.io.atomic import write_text
from medseg.io.maps import MapApart, compare_map, write_map

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from medseg.batch.outputs import Finished
    from medseg.inference.maps import MapName


def asked_maps(formats: Collection[str]) -> tuple[MapName, ...]:
    """Return the maps that formats need; they are called the same.

    Examples
    --------
    >>> asked_maps(["nifti", "uncertainty"])
    ('uncertainty',)
    """
    return tuple(name for name in MAPS if name in formats)


def write_uncertainty(finished: Finished, path: Path) -> None:
    """Write the entropy at each voxel."""
    write_map(finished.result.maps["uncertainty"], path)


def write_probabilities(finished: Finished, path: Path) -> None:
    """Write each class's probability at each voxel."""
    write_map(finished.result.maps["probabilities"], path)


def write_channels(finished: Finished, path: Path) -> None:
    """Write what the channels of ``probabilities.nii.gz`` are, for people and programs: NIfTI has no place for it."""
    document = {"schema": 1, "file": "probabilities.nii.gz", "channels": _channels(finished)}
    write_text(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def map_apart(finished: Finished, name: MapName, path: Path) -> MapApart:
    """Return how far a map's file is from the map."""
    return compare_map(path, finished.result.maps[name])


def tells_channels(finished: Finished, path: Path) -> bool:
    """Tell whether a file names the channels as they are.

    Raises
    ------
    KeyError, ValueError
        Where it is no such file.
    """
    return bool(json.loads(path.read_text("utf-8"))["channels"] == _channels(finished))


def _channels(finished: Finished) -> list[dict[str, Any]]:
    labels = finished.segmentation.labels
    named = [(0, "background"), *zip(labels.ids, labels.names, strict=True)]
    return [{"channel": n, "id": i, "name": name} for n, (i, name) in enumerate(named)]

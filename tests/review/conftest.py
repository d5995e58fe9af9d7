"""An output folder of `medseg segment` as the batch would leave it, with three scans and their masks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.geometry import Geometry
from medseg.io import write_segmentation, write_volume
from medseg.io.hashing import file_sha256
from medseg.labels import LabelSet
from medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHAPE = (8, 12, 14)
GRID = Geometry(SHAPE, np.array([[0, 0, 1.5, -20], [0, 1.5, 0, 30], [3.0, 0, 0, 7], [0, 0, 0, 1.0]]))
LABELS = LabelSet.from_names({1: "liver", 2: "spleen"})
CONFIDENCE = {"a": 0.9, "b": 0.6, "c": None}


def mask_of(first: int) -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[first : first + 4, 3:8, 3:9] = 1
    array[first, 9:11, 9:11] = 2
    return array


def scan_of(first: int) -> np.ndarray:
    rng = np.random.default_rng(first)
    array = rng.integers(-50, 20, SHAPE).astype(np.int16)
    array[mask_of(first) > 0] += 100
    return array


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for n, name in enumerate("abc"):
        write_volume(Volume(scan_of(n)[None], GRID), folder / f"{name}.nii.gz")
    return folder


@pytest.fixture
def make_out(tmp_path: Path, scans: Path) -> Callable[..., Path]:
    """Write an output folder; `shift` moves the masks along z, as another model would."""

    def make(name: str = "out", *, shift: int = 0) -> Path:
        out = tmp_path / name
        cases = []
        for n, case in enumerate("abc"):
            (out / case).mkdir(parents=True)
            path = out / case / "segmentation.nii.gz"
            write_segmentation(Segmentation(mask_of(n + shift), GRID, LABELS), path)
            cases.append(
                {
                    "id": case,
                    "status": "done",
                    "reason": "",
                    "inputs": [f"{case}.nii.gz"],
                    "outputs": {"nifti": f"{case}/segmentation.nii.gz"},
                    "labels": LABELS.to_json(),
                    "confidence": CONFIDENCE[case],
                    "flags": ["empty"] if case == "c" else [],
                    "hashes": {"nifti": file_sha256(path)},
                }
            )
        cases.append({"id": "d", "status": "failed", "inputs": ["d.nii.gz"], "outputs": {}})
        document = {"schema": 1, "model": {"name": "m", "sha256": "f" * 64}, "cases": cases}
        (out / "manifest.json").write_text(json.dumps(document))
        return out

    return make


@pytest.fixture
def out(make_out: Callable[..., Path]) -> Path:
    return make_out()

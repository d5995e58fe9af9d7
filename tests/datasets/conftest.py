"""Small data sets on disk, written with nibabel so that our own writers are not their judge."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Writer:
    """Writes files of a data set under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seed = 0

    def image(self, name: str, *, shape: tuple[int, ...] = (6, 7, 8), spacing: float = 1.0, value: Any = None) -> Path:
        """Write noise, or a constant `value`."""
        self._seed += 1
        array = np.random.default_rng(self._seed).normal(100, 20, shape).astype(np.float32)
        if value is not None:
            array[...] = value
        return self.save(name, array, spacing=spacing)

    def mask(
        self, name: str, *, shape: tuple[int, ...] = (6, 7, 8), spacing: float = 1.0, values: tuple[float, ...] = (1, 2)
    ) -> Path:
        """Write a mask with one voxel row of each of `values`."""
        array = np.zeros(shape, dtype=np.float32 if any(v != int(v) for v in values) else np.uint8)
        for row, value in enumerate(values):
            array[row] = value
        return self.save(name, array, spacing=spacing)

    def save(self, name: str, array: Any, *, spacing: float = 1.0) -> Path:
        """Write any array."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, np.diag([spacing, spacing, spacing, 1.0])), path)
        return path

    def json(self, document: object, name: str = "dataset.json") -> Path:
        """Write a JSON file."""
        path = self.root / name
        path.write_text(json.dumps(document))
        return path

    def decathlon(self, n: int = 3, **more: object) -> Path:
        """Write a sound Decathlon data set and return its folder."""
        rows = []
        for i in range(n):
            self.image(f"imagesTr/case_{i}.nii.gz")
            self.mask(f"labelsTr/case_{i}.nii.gz")
            rows.append({"image": f"./imagesTr/case_{i}.nii.gz", "label": f"./labelsTr/case_{i}.nii.gz"})
        document = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "a", "2": "b"}, "training": rows}
        self.json({**document, **more})
        return self.root


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path)


@pytest.fixture
def codes() -> Callable[[Path], dict[str, list[str]]]:
    """What the lint finds: files by code."""
    from medseg.datasets import check_dataset

    def found(path: Path) -> dict[str, list[str]]:
        result: dict[str, list[str]] = {}
        for finding in check_dataset(path).findings:
            assert finding.message
            assert finding.remedy
            result.setdefault(finding.code, []).append(finding.file)
        return result

    return found

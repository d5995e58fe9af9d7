"""The public nouns: each is there, whatever was loaded before it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

import medseg
from medseg.geometry import Geometry
from medseg.labels import LabelSet

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["Geometry", "Plan", "read", "Segmenter", "errors"])
def test_every_noun_is_there_after_everything_else(name: str) -> None:
    code = f"import medseg; medseg.Segmenter; assert medseg.{name} is getattr(medseg, {name!r})"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_noun_hides_a_room() -> None:
    rooms = {home.rpartition(".")[2] for home in medseg._HOMES}
    assert not rooms & (set(medseg.__all__) - {"errors"})


def test_an_unknown_noun() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = medseg.nonsense


def test_reading_and_writing_in_short(tmp_path: Path) -> None:
    grid = Geometry((2, 3, 4), np.eye(4))
    image = medseg.Volume(np.arange(24, dtype=np.int16).reshape(1, 2, 3, 4), grid)
    mask = medseg.Segmentation((image.array[0] > 5).astype(np.uint8), grid, LabelSet.from_names({1: "high"}))
    medseg.write(image, tmp_path / "image.nii.gz")
    medseg.write(mask, tmp_path / "mask.nii.gz")
    assert np.array_equal(medseg.read(tmp_path / "image.nii.gz").array, image.array)
    assert np.array_equal(medseg.read_segmentation(tmp_path / "mask.nii.gz").array, mask.array)
    assert issubclass(medseg.GeometryError, medseg.errors.MedsegError)

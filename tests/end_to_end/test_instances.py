"""Cells in pictures, counted: class masks of real nuclei fall into objects, and the objects are scored."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest

from medseg.cli.app import main
from medseg.instances import separate
from medseg.io import read_segmentation, write_volume
from medseg.plan import InstancePlan
from medseg.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.plan import InstanceMethod

PICTURES = 8


@pytest.fixture
def crowded(test_data: Path) -> tuple[Path, list[str]]:
    """The folder of nuclei, and the small pictures with most of them."""
    folder = test_data / "images2d" / "nuclei"
    if not folder.is_dir():
        pytest.skip(f"no pictures of nuclei at {folder}")
    rows = list(csv.DictReader((folder / "cases.csv").read_text().splitlines()))
    small = [row for row in rows if int(row["width"]) * int(row["height"]) <= 256 * 256]
    return folder, [row["id"] for row in sorted(small, key=lambda row: -int(row["nuclei"]))[:PICTURES]]


def test_touching_nuclei_are_told_apart_by_the_watershed(crowded: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, ids = crowded
    f1 = {}
    methods: tuple[InstanceMethod, ...] = ("components", "watershed")
    for method in methods:
        for case in ids:
            found = separate(read_segmentation(folder / "masks" / f"{case}.png"), InstancePlan(method=method))
            place = tmp_path / method / case
            place.mkdir(parents=True)
            write_volume(Volume(found.array[None], found.geometry), place / "instances.nii.gz")
        words = [str(tmp_path / method), str(folder / "instances"), "-o", str(tmp_path / f"{method}-scores")]
        assert main(["evaluate", *words, "--instances", "--subset"]) == 0
        document = json.loads((tmp_path / f"{method}-scores" / "metrics.json").read_text())
        assert len(document["instances"]["cases"]) == PICTURES
        assert document["summary"]["foreground"]["dice"]["mean"] == 1.0
        f1[method] = document["instances"]["pooled"][0]["f1"]
    assert f1["watershed"] > f1["components"] + 0.02
    assert f1["watershed"] > 0.9

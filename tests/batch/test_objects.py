"""Numbered objects of a batch: how they are asked for, what is written and checked, what resume makes of it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from medseg.batch import BatchOptions, run_batch
from medseg.batch import outputs as outputs_module
from medseg.errors import PlanError
from medseg.geometry import Geometry
from medseg.io import read_segmentation, write_volume
from medseg.io.objects import read_objects
from medseg.plan import InstancePlan
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AFFINE = np.array([[0, 0, 1.5, -20], [0, 1.5, 0, 30], [2.0, 0, 0, 7], [0, 0, 0, 1.0]])
SHAPE = (14, 20, 30)

Run = "Callable[..., tuple[dict[str, Any], Path]]"


@pytest.fixture
def run(tmp_path: Path, make_model: Callable[..., Path], loading: Callable[..., Any]) -> Run:
    """Segment a scan of two balls that touch and a third by itself; return its entry, and the case's folder."""
    z, y, x = (np.arange(n) * s for n, s in zip(SHAPE, (2.0, 1.5, 1.5), strict=True))
    inside = np.zeros(SHAPE, bool)
    for centre, radius in (((14, 12, 12), 8.0), ((14, 12, 27), 8.0), ((6, 23, 40), 3.0)):
        grids = np.meshgrid(z, y, x, indexing="ij")
        inside |= sum((g - c) ** 2 for g, c in zip(grids, centre, strict=True)) <= radius**2
    write_volume(Volume((inside[None] * 1000).astype(np.int16), Geometry(SHAPE, AFFINE)), tmp_path / "a.nii.gz")

    def segment(*, planned: InstancePlan | None = None, **options: Any) -> Any:
        model = make_model(instances=planned, name=planned.method if planned else "model")
        manifest = run_batch(
            loading(model), [tmp_path / "a.nii.gz"], out=tmp_path / "out", options=BatchOptions(**options)
        )
        (case,) = manifest.to_json()["cases"]
        assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == manifest.to_json()
        return case | {"options": manifest.to_json()["options"]}, tmp_path / "out" / "a"

    return segment


@pytest.mark.parametrize(("method", "count"), [("components", 2), ("watershed", 3)])
def test_objects_are_written_counted_and_checked(method: str, count: int, run: Run) -> None:
    formats = ("nifti", "instances", "measurements", "png")
    case, folder = run(formats=formats, instances=method)
    assert case["status"] == "done", case["reason"]
    assert case["outputs"].keys() == case["checks"].keys() == {*formats, "objects"}
    assert all(check["passed"] for check in case["checks"].values())
    assert case["checks"]["instances"].items() >= {"voxels_differing": 0, "reader": "SimpleITK"}.items()
    assert case["options"]["instances"] == method
    mask, numbers = read_segmentation(folder / "segmentation.nii.gz"), read_objects(folder / "instances.nii.gz")
    assert np.array_equal(numbers.array[0] > 0, mask.array > 0)
    assert numbers.geometry.same_grid(mask.geometry)
    assert set(np.unique(numbers.array)) == set(range(count + 1))
    rows = list(csv.DictReader((folder / "objects.csv").read_text().splitlines()))
    assert [int(row["voxels"]) for row in rows] == np.bincount(numbers.array.ravel())[1:].tolist()
    (entry,) = case["objects"]
    assert (entry["id"], entry["name"], entry["count"]) == (1, "lesion", count)
    assert entry["volume_ml"]["mean"] * count == pytest.approx(case["labels"][0]["volume_ml"], abs=1e-5)
    assert json.loads((folder / "measurements.json").read_text())["objects"] == [entry]
    assert f"{count} objects, median" in (folder.parent / "report.html").read_text()


def test_without_the_step_nothing_is_said_of_objects(run: Run) -> None:
    case, folder = run(formats=("nifti", "measurements"))
    assert "objects" not in case
    assert case["options"]["instances"] == "none"
    assert "objects" not in json.loads((folder / "measurements.json").read_text())


def test_a_plan_asks_for_objects_and_the_command_line_goes_before_it(run: Run) -> None:
    planned = InstancePlan(method="watershed", minimum_mm3=500.0)
    case, _ = run(planned=planned)
    assert (case["options"]["instances"], case["objects"][0]["count"]) == ("watershed", 2)  # the small one is dropped
    case, _ = run(planned=planned, instances="components", overwrite=True)
    assert (case["options"]["instances"], case["objects"][0]["count"]) == ("components", 1)
    case, _ = run(planned=planned, instances="none", overwrite=True)
    assert (case["options"]["instances"], "objects" in case) == ("none", False)


def test_a_format_of_objects_asks_for_components(run: Run) -> None:
    case, folder = run(formats=("objects",))
    assert (case["options"]["instances"], case["objects"][0]["count"]) == ("components", 2)
    assert [path.name for path in folder.iterdir()] == ["objects.csv"]
    with pytest.raises(PlanError, match=r"--instances none was given, and the format instances"):
        BatchOptions(formats=("instances",), instances="none")
    with pytest.raises(PlanError, match="--instances was given 'guess'"):
        BatchOptions(instances="guess")  # type: ignore[arg-type]


def test_resume_keeps_what_was_asked_alike_and_redoes_the_rest(run: Run) -> None:
    case, _ = run(formats=("instances",), instances="components")
    again, _ = run(formats=("instances",), resume=True)  # the same method, by default
    assert (again["status"], again["objects"]) == ("skipped", case["objects"])
    other, folder = run(formats=("instances",), instances="watershed", resume=True)
    assert (other["status"], other["objects"][0]["count"]) == ("done", 3)
    assert read_objects(folder / "instances.nii.gz").array.max() == 3


def test_a_scan_without_objects_is_done(run: Run, tmp_path: Path) -> None:
    blank = Volume(np.zeros((1, *SHAPE), np.int16), Geometry(SHAPE, AFFINE))
    write_volume(blank, tmp_path / "a.nii.gz")
    case, folder = run(formats=("instances", "png", "measurements"), instances="watershed")
    assert (case["status"], case["flags"]) == ("done", ["empty"]), case["reason"]
    assert case["objects"] == [{"id": 1, "name": "lesion", "count": 0, "volume_ml": None}]
    assert not read_objects(folder / "instances.nii.gz").array.any()


def _renumbered(text: str) -> str:
    return text.replace("\n1,", "\n9,")


def _moved(text: str) -> str:
    header, first, *rest = text.splitlines()
    cells = first.split(",")
    cells[7] = str(float(cells[7]) + 1.0)
    return "\n".join([header, ",".join(cells), *rest]) + "\n"


@pytest.mark.parametrize(("wrong", "words"), [(_renumbered, "inf"), (_moved, "centroid_mm 1")])
def test_a_wrong_table_fails_the_case(
    wrong: Callable[[str], str], words: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = outputs_module.FORMATS["objects"]

    def write(finished: Any, path: Path) -> None:
        right.write(finished, path)
        path.write_text(wrong(path.read_text()))

    changed = dict(outputs_module.FORMATS) | {"objects": replace(right, write=write)}
    monkeypatch.setattr(outputs_module, "FORMATS", changed)
    case, _ = run(formats=("objects",))
    assert (case["status"], case["outputs"]) == ("failed", {})
    assert words in case["reason"]


def test_wrong_numbers_and_counts_fail_the_case(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    right = outputs_module.FORMATS["instances"]

    def write(finished: Any, path: Path) -> None:
        objects = finished.instances.objects
        write_volume(Volume(objects.array[None, :, ::-1].copy(), objects.geometry), path)

    changed = dict(outputs_module.FORMATS) | {"instances": replace(right, write=write)}
    monkeypatch.setattr(outputs_module, "FORMATS", changed)
    case, _ = run(formats=("instances",), instances="watershed")
    assert case["status"] == "failed"
    assert "voxels_differing" in case["reason"]
    monkeypatch.undo()
    monkeypatch.setattr(
        "medseg.batch.objects.summarised", lambda objects, _: ({"id": 1, "name": "x", "count": 7, "volume_ml": None},)
    )
    case, _ = run(formats=("measurements",), instances="watershed", overwrite=True)
    assert case["status"] == "failed"


def test_with_too_many_objects_nothing_is_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.instances.objects._MOST", 1)
    case, folder = run(formats=("nifti",), instances="components")
    assert (case["status"], case["outputs"]) == ("failed", {})
    assert "2 objects or more; expected at most 1" in case["reason"]
    assert not folder.exists()

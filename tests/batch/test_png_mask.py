"""The mask as a picture: ids as pixels, the labels' colours as palette, opened again by the bytes of the file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from medseg.batch import BatchOptions, run_batch
from medseg.batch import outputs as outputs_module
from medseg.io import read_segmentation, write_volume
from medseg.io.images import write_indexed
from medseg.labels import Label, LabelSet, voc_color

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medseg.batch.manifest import CaseRecord
    from medseg.volume import Volume

    Run = Callable[..., tuple[CaseRecord, Path]]


@pytest.fixture
def run(tmp_path: Path, make_model: Callable[..., Path], loading: Callable[..., Any]) -> Run:
    """Segment a grey picture with a bright block, by a model whose label has a given id."""

    def segment(*formats: str, label_id: int = 255, volume: Volume | None = None) -> tuple[CaseRecord, Path]:
        folder, out = tmp_path / "in", tmp_path / "out"
        folder.mkdir()
        if volume is None:
            picture = np.zeros((20, 30), np.uint8)
            picture[5:11, 8:20] = 200
            Image.fromarray(picture).save(folder / "a.png")
        else:
            write_volume(volume, folder / "a.nii.gz")
        load = loading(make_model(spacing_mm=(1.0, 1.0, 1.0)))

        def renamed(path: Any) -> Any:
            segmenter = load(path)
            labels = LabelSet((Label(label_id, "cell", (1, 2, 3)),))
            segmenter.plan = segmenter.plan.model_copy(update={"labels": labels})
            return segmenter

        return run_batch(renamed, [folder], out=out, options=BatchOptions(formats=formats)).cases[0], out

    return segment


def test_a_picture_of_the_mask_comes_with_png(run: Run) -> None:
    case, out = run("png")
    assert case.outputs == {"png": "a/preview.png", "png-mask": "a/segmentation.png"}
    assert case.checks["png-mask"] == {
        "passed": True, "reader": "the bytes of the file", "voxels_differing": 0,
    }  # fmt: skip
    with Image.open(out / "a" / "segmentation.png") as picture:
        assert picture.mode == "P"
        ids, shown = np.array(picture), np.array(picture.convert("RGB"))
    expected = np.zeros((20, 30), np.uint8)
    expected[5:11, 8:20] = 255
    np.testing.assert_array_equal(ids, expected)
    assert shown[7, 10].tolist() == [1, 2, 3]
    assert shown[0, 0].tolist() == [0, 0, 0]
    np.testing.assert_array_equal(read_segmentation(out / "a" / "segmentation.png").array[0], expected)


def test_ids_above_255_have_only_the_overlay(run: Run) -> None:
    case, _ = run("png", label_id=300)
    assert (case.status, set(case.outputs)) == ("done", {"png"})
    assert "format-not-applicable" not in {f["code"] for f in case.findings}


def test_ids_above_255_are_said_where_the_mask_was_asked_for(run: Run) -> None:
    case, _ = run("nifti", "png-mask", label_id=300)
    assert (case.status, set(case.outputs)) == ("done", {"nifti"})
    assert "format-not-applicable" in {f["code"] for f in case.findings}


def test_a_scan_of_many_slices_has_only_the_overlay(run: Run, scan: Callable[..., Volume]) -> None:
    case, _ = run("png", label_id=1, volume=scan())
    assert (case.status, set(case.outputs)) == ("done", {"png"})
    assert "format-not-applicable" not in {f["code"] for f in case.findings}


@pytest.mark.parametrize("fault", ["pixels", "palette", "size"])
def test_a_picture_that_holds_something_else_fails_the_case(
    run: Run, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def wrong(ids: Any, colours: Any, path: Path) -> None:
        ids = {"pixels": ids[::-1], "size": ids[:-1], "palette": ids}[fault]
        write_indexed(ids, [voc_color(i) for i in range(256)] if fault == "palette" else colours, path)

    monkeypatch.setattr(outputs_module, "write_indexed", wrong)
    case, _ = run("png")
    assert (case.status, case.outputs) == ("failed", {})
    assert case.reason.startswith("Writing png-mask failed: the file does not hold what was written")


def test_the_palette_keeps_every_colour() -> None:
    labels = LabelSet.from_names({i: f"label_{i}" for i in range(1, 300)})
    assert labels.palette[1:] == tuple(label.color for label in labels)[:255]
    assert replace(labels, labels=()).palette == tuple(voc_color(i) for i in range(256))

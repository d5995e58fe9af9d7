"""Maps of uncertainty and probabilities as outputs of a batch: written, opened again, kept by resume."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest

from medseg.batch import BatchOptions, run_batch
from medseg.batch import outputs as outputs_module
from medseg.batch.outputs import written_formats
from medseg.inference import Segmenter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medseg.inference import Result

FORMATS = ("nifti", "uncertainty", "probabilities")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The maps that the segmenter was asked for, case by case."""
    told: list[tuple[str, ...]] = []
    inner = Segmenter.segment

    def segment(self: Segmenter, *args: Any, **kwargs: Any) -> Result:
        told.append(tuple(kwargs.get("maps", ())))
        return inner(self, *args, **kwargs)

    monkeypatch.setattr(Segmenter, "segment", segment)
    return told


def test_maps_are_written_opened_again_and_kept_by_resume(
    tmp_path: Path,
    three_scans: Path,
    make_model: Callable[..., Path],
    loading: Callable[..., Any],
    asked: list[tuple[str, ...]],
) -> None:
    load, out = loading(make_model()), tmp_path / "out"
    manifest = run_batch(load, [three_scans], out=out, options=BatchOptions(formats=FORMATS))
    assert asked == [("uncertainty", "probabilities")] * 3
    for case in manifest.cases:
        assert case.status == "done"
        assert case.outputs == {
            "nifti": f"{case.id}/segmentation.nii.gz",
            "uncertainty": f"{case.id}/uncertainty.nii.gz",
            "probabilities": f"{case.id}/probabilities.nii.gz",
            "channels": f"{case.id}/probabilities.json",
        }
        for name in ("uncertainty", "probabilities"):
            check = case.checks[name]
            assert (check["passed"], check["reader"]) == (True, "the bytes of the file")
            assert check["voxels_differing"] == 0
            assert check["grid_mm"] < 0.01
        mask, uncertainty, probabilities = (
            np.asarray(nibabel.load(out / case.outputs[name]).dataobj) for name in FORMATS
        )
        assert probabilities.shape == (*mask.shape, 2)
        assert uncertainty.shape == mask.shape
        np.testing.assert_allclose(probabilities.sum(axis=-1), 1.0, atol=1e-5)
        np.testing.assert_array_equal(probabilities.argmax(axis=-1), mask)
        assert 0 <= uncertainty.min() <= uncertainty.max() <= 1
        document = json.loads((out / case.outputs["channels"]).read_text("utf-8"))
        assert document["channels"] == [
            {"channel": 0, "id": 0, "name": "background"},
            {"channel": 1, "id": 1, "name": "lesion"},
        ]
    again = run_batch(load, [three_scans], out=out, options=BatchOptions(formats=FORMATS, resume=True))
    assert [case.status for case in again.cases] == ["skipped"] * 3
    assert len(asked) == 3
    (out / again.cases[1].outputs["uncertainty"]).write_bytes(b"")
    third = run_batch(load, [three_scans], out=out, options=BatchOptions(formats=FORMATS, resume=True))
    assert [case.status for case in third.cases] == ["skipped", "done", "skipped"]


def test_maps_are_made_only_where_they_are_asked_for(
    tmp_path: Path,
    three_scans: Path,
    make_model: Callable[..., Path],
    loading: Callable[..., Any],
    asked: list[tuple[str, ...]],
) -> None:
    (three_scans / "b.nii.gz").unlink()
    (three_scans / "c.nii.gz").unlink()
    load = loading(make_model())
    for n, formats in enumerate((("nifti",), ("uncertainty",), ("channels",))):
        case = run_batch(load, [three_scans], out=tmp_path / f"{n}", options=BatchOptions(formats=formats)).cases[0]
        assert (case.status, tuple(case.outputs)) == ("done", formats)
    assert asked == [(), ("uncertainty",), ()]
    assert written_formats(["probabilities"]) == ("probabilities", "channels")


def test_a_map_that_did_not_come_back_fails_the_case(
    tmp_path: Path,
    three_scans: Path,
    make_model: Callable[..., Path],
    loading: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def spoilt(inner: Any) -> Any:
        def write(finished: Any, path: Path) -> None:
            inner(finished, path)
            image = nibabel.load(path)
            numbers = np.asarray(image.dataobj).copy()
            numbers.flat[0] += 0.25
            nibabel.Nifti1Image(numbers, image.affine).to_filename(path)

        return write

    load = loading(make_model())
    for name in ("uncertainty", "probabilities"):
        row = outputs_module.FORMATS[name]
        spoilt_row = outputs_module.Format(row.file, spoilt(row.write))
        monkeypatch.setattr(outputs_module, "FORMATS", {**outputs_module.FORMATS, name: spoilt_row})
        out = tmp_path / name
        cases = run_batch(load, [three_scans], out=out, options=BatchOptions(formats=("nifti", name))).cases
        assert {case.status for case in cases} == {"failed"}
        assert f"Writing {name} failed: the file does not hold what was written" in cases[0].reason
        assert not (out / cases[0].id).exists()

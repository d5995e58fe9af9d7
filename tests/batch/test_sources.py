"""Where cases come from: DICOM trees and data sets, each under its own id."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.batch import BatchOptions, run_batch, run_cases
from medseg.case import Case
from medseg.io import read_segmentation
from medseg.io.dicom import read_seg, write_series
from medseg.resample import resample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medseg.volume import Volume


def test_a_dicom_tree_ends_as_masks_that_refer_to_it_and_name_no_patient(
    tmp_path: Path, scan: Callable[..., Volume], make_model: Callable[..., Path], loading: Callable[..., Any]
) -> None:
    tree = tmp_path / "tree"
    for name, first in (("one", 2), ("two", 4)):
        write_series(scan(first), tree / name, modality="MR", name=name, patient="Doe^Jane")
    write_series(scan(), tree / "ct", modality="CT", name="ct", patient="Doe^Jane")
    (tree / "one" / "broken.dcm").write_bytes((tree / "two").glob("*").__next__().read_bytes()[:400])
    out = tmp_path / "out"
    options = BatchOptions(formats=("nifti", "dicom-seg", "png", "measurements"))
    manifest = run_batch(loading(make_model()), [tree], out=out, options=options)
    assert {**manifest.counts, "ignored": 0, "refused": 0} == {
        "done": 2, "skipped": 0, "refused": 0, "failed": 0, "ignored": 0,
    }  # fmt: skip
    refused = [case for case in manifest.cases if case.id.startswith("ct-")]
    assert [case.status for case in refused] == ["refused"]
    assert "--any-modality" in refused[0].reason
    done = [case for case in manifest.cases if case.status == "done"]
    for case in done:
        nifti = read_segmentation(out / case.outputs["nifti"], labels=None)
        seg = read_seg(out / case.outputs["dicom-seg"])
        assert nifti.array.any()
        np.testing.assert_array_equal(resample(seg, onto=nifti.geometry).array, nifti.array)
        assert len(case.inputs) == 10
        assert case.hashes["dicom-seg"]
    for path in out.rglob("*"):
        assert "doe" not in path.name.lower()
        if path.is_file() and path.suffix != ".dcm":
            content = path.read_bytes()
            content = gzip.decompress(content) if path.suffix == ".gz" else content
            assert b"doe" not in content.lower()
            assert b"jane" not in content.lower()


def test_a_series_without_its_uids_is_done_without_a_seg(
    tmp_path: Path, scan: Callable[..., Volume], make_model: Callable[..., Path], loading: Callable[..., Any]
) -> None:
    import pydicom

    for path in write_series(scan(), tmp_path / "in", modality="MR"):
        dataset = pydicom.dcmread(path)
        dataset.StudyInstanceUID = dataset.SeriesInstanceUID = dataset.SOPInstanceUID = ""
        dataset.file_meta.MediaStorageSOPInstanceUID = ""
        dataset.save_as(path, enforce_file_format=False)
    out = tmp_path / "out"
    options = BatchOptions(formats=("nifti", "dicom-seg"))
    manifest = run_batch(loading(make_model()), [tmp_path / "in"], out=out, options=options)
    (case,) = manifest.cases
    assert case.status == "done", case.reason
    assert list(case.outputs) == ["nifti"]
    assert "format-not-applicable" in {f["code"] for f in case.findings}


def test_the_cases_of_a_data_set_keep_their_ids(
    three_scans: Path,
    tmp_path: Path,
    scan: Callable[..., Volume],
    make_model: Callable[..., Path],
    loading: Callable[..., Any],
) -> None:
    write_series(scan(5), tmp_path / "series", modality="MR")
    write_series(scan(), tmp_path / "two" / "a", modality="MR", name="a")
    write_series(scan(), tmp_path / "two" / "b", modality="MR", name="b")
    cases = [
        Case("first", (three_scans / "b.nii.gz",)),
        Case("second", (tmp_path / "series",)),
        Case("third", (tmp_path / "two",)),
        Case("fourth", (three_scans / "nowhere.nii.gz",)),
    ]
    segmenter = loading(make_model())(None)
    out = tmp_path / "out"
    manifest = run_cases(segmenter, cases, out=out, options=BatchOptions())
    assert {case.id: case.status for case in manifest.cases} == {
        "first": "done",
        "second": "done",
        "third": "refused",
        "fourth": "refused",
    }
    assert "2 series" in manifest.cases[2].reason
    mask = read_segmentation(out / "second" / "segmentation.nii.gz")
    np.testing.assert_array_equal(mask.array, scan(5).array[0] > 500)
    assert run_cases(segmenter, cases[:2], out=out, options=BatchOptions(resume=True)).counts["skipped"] == 2

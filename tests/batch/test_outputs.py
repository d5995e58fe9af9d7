"""What is written for a case: every format, one identity, checked by other means; all of it or nothing."""

from __future__ import annotations

import importlib.util
import json
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest

from medseg.batch import BatchOptions, run_batch
from medseg.batch import outputs as outputs_module
from medseg.batch.outputs import FORMATS, Finished, written_formats
from medseg.errors import MissingExtraError
from medseg.geometry import Geometry
from medseg.io import write_volume
from medseg.io.dicom import write_seg, write_series
from medseg.io.dicom.sr import read_sr_volumes
from medseg.io.mesh import read_stl, volume_and_centroid
from medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytest.importorskip("skimage", reason="scikit-image (the extras rtstruct and stl) is not installed")

EVERYTHING = tuple(name for name in FORMATS if name != "png-mask")  # which is for scans of one slice
TILTED = np.array([[0, 0, 1.5, -20], [0.4, 1.5, 0, 30], [2.0, 0, 0, 7], [0, 0, 0, 1.0]])
OBLIQUE = np.array([[1.2, 0, 1.2, -20], [0, 1.5, 0, 30], [1.6, 0, -0.9, 7], [0, 0, 0, 1.0]])

Run = "Callable[..., tuple[dict[str, Any], Path]]"


@pytest.fixture
def run(
    tmp_path: Path, scan: Callable[..., Volume], make_model: Callable[..., Path], loading: Callable[..., Any]
) -> Run:
    """Segment one series, or one file, into all formats; return its entry in the manifest, and the folder."""

    def segment(*, affine: Any = None, is_dicom: bool = True, blank: bool = False, **options: Any) -> Any:
        image = scan() if affine is None else scan(affine=affine)
        if blank:
            image = Volume(np.zeros_like(image.array), image.geometry)
        source, out = tmp_path / "in", tmp_path / "out"
        if source.exists():
            pass  # a second run on the same input
        elif is_dicom:
            write_series(image, source, modality="MR")
            for path in options.pop("drop", lambda _: ())(sorted(source.iterdir())):
                path.unlink()
        else:
            source.mkdir()
            write_volume(image, source / "a.nii.gz")
        asked = BatchOptions(formats=options.pop("formats", EVERYTHING), **options)
        run_batch(loading(make_model()), [source], out=out, options=asked)
        (case,) = json.loads((out / "manifest.json").read_text())["cases"]
        return case, out

    return segment


@pytest.mark.parametrize("affine", [None, TILTED, OBLIQUE], ids=["plain", "tilted", "oblique"])
@pytest.mark.parametrize("seg_type", ["binary", "labelmap"])
def test_every_format_is_written_and_checked(affine: Any, seg_type: str, run: Run) -> None:
    case, out = run(affine=affine, seg_type=seg_type)
    assert case["status"] == "done", case["reason"]
    assert set(case["outputs"]) == set(case["checks"]) == set(EVERYTHING)
    assert set(case["hashes"]) == {"input", *EVERYTHING}
    for name, check in case["checks"].items():
        assert check["passed"] is True, name
    for name in ("nifti", "dicom-seg", "rtstruct"):
        check = case["checks"][name]
        assert (check["voxels_differing"], check["laterality"]) == (0, True)
        assert check["grid_mm"] < 0.01
        assert check["centroid_mm"] < 0.01
    reader = "the bytes of the header" if affine is TILTED else "SimpleITK"
    assert case["checks"]["nifti"]["reader"] == reader
    assert (case["checks"]["stl"]["closed"], case["checks"]["stl"]["voxels_differing"]) == (True, 0)
    assert case["checks"]["sr"].keys() == {"passed", "reader", "volume_ml"}
    assert pydicom.dcmread(out / case["outputs"]["dicom-seg"]).SegmentationType == seg_type.upper()
    (volume,) = read_sr_volumes(out / case["outputs"]["sr"]).values()
    assert volume == pytest.approx(case["labels"][0]["volume_ml"], abs=1e-6)
    (mesh,) = (out / case["outputs"]["stl"]).iterdir()
    assert mesh.name == "1_lesion.stl"
    assert volume_and_centroid(read_stl(mesh))[0] / 1000 == pytest.approx(volume, rel=0.2)


def test_one_run_shares_its_uids(run: Run) -> None:
    case, out = run()
    seg, rtstruct, report = (pydicom.dcmread(out / case["outputs"][n]) for n in ("dicom-seg", "rtstruct", "sr"))
    assert len({str(d.StudyInstanceUID) for d in (seg, rtstruct, report)}) == 1
    assert len({str(d.SeriesInstanceUID) for d in (seg, rtstruct, report)}) == 3
    assert seg.FrameOfReferenceUID == rtstruct.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID
    assert read_sr_volumes(out / case["outputs"]["sr"]).keys() == {str(s.TrackingUID) for s in seg.SegmentSequence}
    text = str(report)
    assert str(seg.SOPInstanceUID) in text
    assert seg.ContentDate == report.ContentDate


def test_slices_at_uneven_positions_are_checked_where_they_lie(run: Run) -> None:
    case, out = run(drop=lambda paths: [paths[4]], on_irregular="resample")
    assert case["status"] == "done", case["reason"]
    assert all(check["passed"] for check in case["checks"].values())
    seg = pydicom.dcmread(out / case["outputs"]["dicom-seg"])
    assert int(seg.NumberOfFrames) == 3  # of the four slices of the block, one is missing
    assert case["labels"][0]["voxels"] > 3 * 30


def test_all_frames_are_written_when_asked_for(run: Run) -> None:
    case, out = run(formats=("dicom-seg",), all_frames=True)
    assert int(pydicom.dcmread(out / case["outputs"]["dicom-seg"]).NumberOfFrames) == 10


def test_an_empty_mask_is_written_in_every_format(run: Run) -> None:
    case, out = run(blank=True)
    assert (case["status"], case["flags"]) == ("done", ["empty"]), case["reason"]
    assert set(case["outputs"]) == set(EVERYTHING)
    assert all(check["passed"] for check in case["checks"].values())
    assert list(read_sr_volumes(out / case["outputs"]["sr"]).values()) == [0.0]
    assert list((out / case["outputs"]["stl"]).iterdir()) == []


def test_a_report_brings_the_seg_it_refers_to(run: Run) -> None:
    assert written_formats(("sr",)) == ("dicom-seg", "sr")
    case, out = run(formats=("sr",))
    assert case["outputs"].keys() == {"dicom-seg", "sr"}
    assert sorted(p.name for p in (out / case["id"]).iterdir()) == ["segmentation.dcm", "sr.dcm"]


def test_what_is_no_series_goes_without_dicom_objects(run: Run) -> None:
    case, _ = run(is_dicom=False, formats=("nifti", "sr", "rtstruct", "stl"))
    assert case["status"] == "done", case["reason"]
    assert case["outputs"].keys() == {"nifti", "stl"}
    (told,) = (f for f in case["findings"] if f["code"] == "format-not-applicable")
    assert told["message"] == "rtstruct, sr: a DICOM object needs a DICOM series to refer to"
    assert "series itself" in told["remedy"]


def test_a_report_that_cannot_be_says_what_its_seg_lacks(run: Run) -> None:
    def nameless(paths: list[Path]) -> tuple[Path, ...]:
        for path in paths:
            dataset = pydicom.dcmread(path)
            dataset.StudyInstanceUID = ""
            dataset.save_as(path)
        return ()

    case, _ = run(drop=nameless, formats=("nifti", "sr"))
    assert case["outputs"].keys() == {"nifti"}, case["reason"]
    told = [f["message"] for f in case["findings"] if f["code"] == "format-not-applicable"]
    assert told == ["sr: the files hold no StudyInstanceUID"]


def test_what_others_left_in_a_case_folder_is_never_removed(run: Run) -> None:
    case, out = run(formats=("nifti",))
    note = out / case["id"] / "corrected.nii.gz"
    note.write_bytes(b"an hour of work")
    assert run(formats=("nifti",), resume=True)[0]["status"] == "skipped"
    for again in ({"formats": ("nifti", "png"), "resume": True}, {"overwrite": True}):
        case, _ = run(**again)
        assert (case["status"], "did not write" in case["reason"]) == ("failed", True)
        assert note.read_bytes() == b"an hour of work"


def _as_x_ray(paths: list[Path]) -> list[Path]:
    """Make an X-ray of the first file; return the others."""
    dataset = pydicom.dcmread(paths[0])
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    dataset.Modality, dataset.ImagerPixelSpacing = "DX", dataset.PixelSpacing
    del dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.PixelSpacing
    dataset.save_as(paths[0])
    return paths[1:]


@pytest.mark.parametrize("is_x_ray", [False, True])
def test_a_picture_names_sides_only_where_they_are_known(
    is_x_ray: bool, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    draw = outputs_module.overlay_png

    def drawn(*scan: Any, letters: bool) -> bytes:
        asked.append(letters)
        return draw(*scan, letters=letters)

    monkeypatch.setattr(outputs_module, "overlay_png", drawn)
    case, _ = run(formats=("png",), any_modality=True, **({"drop": _as_x_ray} if is_x_ray else {}))
    assert case["status"] == "done", case["reason"]
    assert asked == [not is_x_ray]


def test_a_picture_has_no_mesh(
    tmp_path: Path, scan: Callable[..., Volume], make_model: Callable[..., Path], loading: Callable[..., Any]
) -> None:
    (tmp_path / "in").mkdir()
    array = scan().array[:, 3:4].astype(np.uint8)
    write_volume(Volume(array, Geometry(array.shape[1:], np.eye(4)[[2, 1, 0, 3]])), tmp_path / "in" / "a.png")
    options = BatchOptions(formats=("nifti", "stl"))
    (case,) = run_batch(loading(make_model()), [tmp_path / "in"], out=tmp_path / "out", options=options).cases
    assert (case.status, list(case.outputs)) == ("done", ["nifti"]), case.reason
    assert "stl: a mesh needs a scan with a place in the patient" in {f["message"] for f in case.findings}
    assert not (tmp_path / "out" / "a" / "stl").exists()


def test_finished_meshes_are_skipped_and_damaged_ones_redone(run: Run) -> None:
    _, out = run(formats=("stl",))
    assert run(formats=("stl",), resume=True)[0]["status"] == "skipped"
    (mesh,) = out.glob("*/stl/*.stl")
    mesh.write_bytes(mesh.read_bytes()[:-50])
    assert run(formats=("stl",), resume=True)[0]["status"] == "done"
    mesh.unlink()
    assert run(formats=("stl",), resume=True)[0]["status"] == "done"
    (out / "mine" / "stl").mkdir(parents=True)
    (out / "mine" / "stl" / "thesis.txt").write_text("years")
    case, _ = run(formats=("nifti",), overwrite=True)
    assert [p.name for p in (out / case["id"]).iterdir()] == ["segmentation.nii.gz"]
    assert (out / "mine" / "stl" / "thesis.txt").is_file()


@pytest.mark.parametrize("missing", ["rtstruct", "stl"])
def test_a_missing_extra_is_named_before_the_batch_starts(missing: str, tmp_path: Path, monkeypatch: Any) -> None:
    def absent() -> None:
        raise MissingExtraError("not installed", remedy=f"Run: pip install 'medseg[{missing}]'")

    changed = dict(FORMATS) | {missing: outputs_module.Format("x", lambda *_: None, absent)}
    monkeypatch.setattr(outputs_module, "FORMATS", changed)
    loaded: list[object] = []
    with pytest.raises(MissingExtraError, match=rf"medseg\[{missing}\]"):
        run_batch(loaded.append, [tmp_path], out=tmp_path / "out", options=BatchOptions(formats=("nifti", missing)))  # type: ignore[arg-type]
    assert not loaded
    assert not (tmp_path / "out").exists()


def test_the_extras_stand_before_their_formats(monkeypatch: Any) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="stl"):
        outputs_module.require_formats(("nifti", "stl"))
    outputs_module.require_formats(("nifti", "sr", "dicom-seg"))


def mirrored(segmentation: Segmentation) -> Segmentation:
    return Segmentation(segmentation.array[:, ::-1].copy(), segmentation.geometry, segmentation.labels)


def displaced(segmentation: Segmentation) -> Segmentation:
    affine = segmentation.geometry.affine.copy()
    affine[:3, 3] += (0, 0.2, 0)
    return Segmentation(segmentation.array, Geometry(segmentation.geometry.shape, affine), segmentation.labels)


@pytest.mark.parametrize(
    ("name", "wrong", "words"),
    [
        ("nifti", mirrored, "voxels_differing 48"),
        ("nifti", displaced, "grid_mm 0.2"),
        ("dicom-seg", mirrored, "voxels_differing 48"),
        ("rtstruct", mirrored, "voxels_differing 48"),
        ("stl", mirrored, "voxels_differing [0-9]+"),
        ("stl", displaced, "grid_mm 0.2"),
    ],
)
def test_a_file_in_the_wrong_place_fails_the_case(
    name: str, wrong: Callable[[Segmentation], Segmentation], words: str, run: Run, monkeypatch: Any
) -> None:
    right = FORMATS[name].write

    def write(finished: Finished, path: Path) -> None:
        other = SimpleNamespace(segmentation=wrong(finished.segmentation))
        right(Finished(finished.job, finished.volume, other, finished.model, finished.options), path)  # type: ignore[arg-type]
        if name == "dicom-seg":  # with the identity of the case, so that only the place is wrong
            write_seg(other.segmentation, path, source=finished.series, identity=finished.identity)

    changed = dict(FORMATS) | {name: outputs_module.Format(FORMATS[name].file, write)}
    monkeypatch.setattr(outputs_module, "FORMATS", changed)
    case, out = run(formats=("measurements", name))
    assert case["status"] == "failed"
    assert case["reason"].startswith(f"Writing {name} failed: the file does not hold what was written (")
    assert re.search(words, case["reason"])
    assert case["outputs"] == {}
    assert sorted(p.name for p in out.iterdir()) == ["journal.sqlite", "manifest.json", "report.html"]


def test_wrong_volumes_fail_the_case(run: Run, monkeypatch: Any) -> None:
    rows = outputs_module.label_rows
    twice = lambda segmentation: tuple(row | {"volume_ml": 2 * row["volume_ml"]} for row in rows(segmentation))  # noqa: E731
    monkeypatch.setattr(outputs_module, "label_rows", twice)
    case, _ = run(formats=("measurements",))
    assert (case["status"], case["outputs"]) == ("failed", {})
    assert "volume_ml 0.54" in case["reason"]


def test_the_page_says_what_was_checked(run: Run) -> None:
    case, out = run(formats=("nifti", "sr"))
    assert case["status"] == "done"
    assert "opened again and found right" in (out / "report.html").read_text()

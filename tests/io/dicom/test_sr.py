from __future__ import annotations

import json
import shutil
import subprocess

import highdicom as hd
import numpy as np
import pydicom
import pytest

from medseg.errors import InputError, OutputError
from medseg.io.dicom import find_series, write_seg, write_series
from medseg.io.dicom import sr as sr_module
from medseg.io.dicom.identity import Identity
from medseg.io.dicom.sr import read_sr_volumes, write_sr
from medseg.labels import Code, Label, LabelSet
from medseg.volume import Segmentation

LABELS = LabelSet(
    (
        Label(2, "liver", (200, 60, 40)),
        Label(5, "kidney_left", (40, 120, 220)),
        Label(6, "hippocampus anterior", (4, 120, 20)),
        Label(7, "tumor", (90, 120, 20)),
        Label(8, "blob", (90, 10, 20)),
        Label(300, "absent thing", (10, 200, 30), Code("99ACME", "T-1", "Our thing")),
    )
)


@pytest.fixture
def make_report(tmp_path, make_image):
    """Return a function that writes series, SEG and SR of one mask, and tells the volumes by label id."""

    def make(*, modality="CT", kind="binary", is_empty=False, algorithm="organ model", **grid):
        write_series(make_image(low=0, **grid), tmp_path / "series", modality=modality)
        source = find_series(tmp_path / "series")
        array = np.zeros(source.geometry.shape, np.uint16)
        if not is_empty:
            array[1:4:2, 1:4, 2:5] = 2
            array[3:4, 2:5, 1:3] = 5
            array[0, 0, :3] = [6, 7, 8]
        segmentation = Segmentation(array, source.geometry, LABELS)
        identity = Identity.new(LABELS)
        write_seg(segmentation, tmp_path / "seg.dcm", source=source, kind=kind, identity=identity)
        path = tmp_path / "sr.dcm"
        write_sr(segmentation, path, source=source, seg=tmp_path / "seg.dcm", identity=identity, algorithm=algorithm)
        return path, segmentation, identity

    return make


@pytest.mark.parametrize("grid", [{}, {"rotation_deg": (12, -33, 51)}, {"tilt_deg": 14.0}], ids=str)
@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_volumes_come_back_equal(grid, kind, make_report):
    path, segmentation, identity = make_report(kind=kind, **grid)
    volumes = read_sr_volumes(path)
    for id_, volume in segmentation.volumes_ml().items():
        assert volumes[identity.tracking[id_].uid] == pytest.approx(volume, abs=1e-6)
    assert len(volumes) == 6
    assert volumes[identity.tracking[300].uid] == 0


def test_highdicom_finds_regions_codes_and_sides(make_report, tmp_path):
    path, _, identity = make_report()
    report = hd.sr.srread(path)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    groups = {g.tracking_uid: g for g in report.content.get_volumetric_roi_measurement_groups()}
    assert set(groups) == {identity.tracking[i].uid for i in (2, 5, 6, 7, 8)}
    numbers = {str(s.TrackingUID): s.SegmentNumber for s in seg.SegmentSequence}
    for uid, group in groups.items():
        image = group.referenced_segment.referenced_sop_instance_uid if group.referenced_segment else None
        assert image == seg.SOPInstanceUID
        segment = group.referenced_segment[0]
        assert segment.referenced_segment_numbers == [numbers[uid]]
        (volume,) = group.get_measurements(hd.sr.CodedConcept("118565006", "SCT", "Volume"))
        assert volume.unit == hd.sr.CodedConcept("cm3", "UCUM", "cubic centimeter")
    kidney = groups[identity.tracking[5].uid]
    assert kidney.tracking_identifier == "kidney_left"
    assert kidney.finding_type.value == "64033007"
    assert kidney.finding_category.meaning == "Anatomical Structure"
    assert kidney.finding_sites[0].laterality.meaning == "Left"
    assert groups[identity.tracking[6].uid].finding_sites[0].topographical_modifier.meaning == "Anterior"
    assert groups[identity.tracking[7].uid].finding_sites == []
    (absent,) = report.content.get_image_measurement_groups()
    assert (absent.tracking_uid, absent.finding_type.value) == (identity.tracking[300].uid, "T-1")


def test_the_evidence_is_every_source_image_and_the_seg(make_report, tmp_path):
    path, _, identity = make_report()
    report = pydicom.dcmread(path)
    files = [pydicom.dcmread(p) for p in (tmp_path / "series").iterdir()]
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    listed = {
        (str(series.SeriesInstanceUID), str(instance.ReferencedSOPInstanceUID))
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert listed == {(str(d.SeriesInstanceUID), str(d.SOPInstanceUID)) for d in (*files, seg)}
    assert (report.StudyInstanceUID, report.PatientName) == (files[0].StudyInstanceUID, files[0].PatientName)
    assert (report.SeriesInstanceUID, report.SOPInstanceUID) == (identity.sr_series, identity.sr_instance)
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        "COMPLETE", "UNVERIFIED", "PRELIMINARY",
    )  # fmt: skip
    text = str(report)
    assert "Device Observer" in text
    assert "Person Observer" not in text
    assert "organ model" in text


def test_an_empty_mask_is_a_report_of_nothing_found(make_report):
    path, _, identity = make_report(is_empty=True)
    assert read_sr_volumes(path) == {t.uid: 0.0 for t in identity.tracking.values()}
    assert hd.sr.srread(path).content.get_volumetric_roi_measurement_groups() == []


# dciodvfy of before Supplement 243 takes a label map for no segmentation; the standard asks for the segment's number
# (PS3.3 section C.18.4).
UNAWARE = "not segmentation - attribute <ReferencedSegmentNumber>"


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("is_empty", [False, True], ids=["found", "empty"])
@pytest.mark.parametrize(("modality", "kind"), [("CT", "binary"), ("MR", "binary"), ("CT", "labelmap")])
def test_dciodvfy_finds_no_error(modality, kind, is_empty, make_report):
    path, _, _ = make_report(modality=modality, kind=kind, is_empty=is_empty)
    result = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert [line for line in errors if kind == "binary" or UNAWARE not in line] == []
    assert result.returncode == 0


def test_dcmqi_reads_the_same(make_report, tmp_path):
    program = shutil.which("tid1500reader")
    if program is None:
        pytest.skip("tid1500reader (dcmqi) is not on the search path")
    path, segmentation, identity = make_report()
    out = tmp_path / "sr.json"
    subprocess.run([program, "--inputDICOM", path, "--outputMetadata", out], check=True, capture_output=True)
    groups = {g["TrackingUniqueIdentifier"]: g for g in json.loads(out.read_text())["Measurements"]}
    for id_, volume in segmentation.volumes_ml().items():
        group = groups[identity.tracking[id_].uid]
        (item,) = group["measurementItems"]
        assert item["quantity"]["CodeValue"] == "118565006"
        assert float(item["value"]) == pytest.approx(volume, abs=1e-6)
        assert item["units"]["CodeValue"] == "cm3"


def test_a_foreign_seg_is_refused(make_report, tmp_path):
    _, segmentation, identity = make_report()
    source = find_series(tmp_path / "series")
    target = tmp_path / "other.dcm"
    for seg, other, words in (
        (tmp_path / "seg.dcm", Identity.new(LABELS), "another mask or in another run"),
        (next((tmp_path / "series").iterdir()), identity, "no DICOM SEG"),
        (tmp_path / "none.dcm", identity, "no DICOM SEG"),
    ):
        with pytest.raises(InputError, match=words):
            write_sr(segmentation, target, source=source, seg=seg, identity=other)
    assert not target.exists()


def test_a_report_that_reads_back_different_never_appears(make_report, tmp_path, monkeypatch):
    group = sr_module._group
    monkeypatch.setattr(sr_module, "_group", lambda label, ml, *a, **k: group(label, ml * 2, *a, **k))
    with pytest.raises(OutputError, match="did not read back"):
        make_report()
    assert not (tmp_path / "sr.dcm").exists()


def test_damaged_reports_are_refused_in_words(make_report, tmp_path):
    path, _, _ = make_report()
    report = pydicom.dcmread(path)
    damaged = tmp_path / "damaged.dcm"
    damaged.write_bytes(path.read_bytes()[:900])
    with pytest.raises(InputError, match="no TID 1500 report"):
        read_sr_volumes(damaged)
    report.ContentSequence[-1].ContentSequence[0].ContentSequence = []
    report.save_as(damaged)
    with pytest.raises(InputError, match="no TID 1500 report"):
        read_sr_volumes(damaged)

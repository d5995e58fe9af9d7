from __future__ import annotations

import os
import sys
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medseg.errors import InputError
from medseg.io.dicom import inspect_files, inspect_folder, is_dicom, read_series, write_series
from medseg.io.dicom.header import lengths
from medseg.io.dicom.item import id_of_file, id_of_series
from medseg.progress import Cancelled


def by_path(inventory):
    return {path: item for item in inventory.items for path in item.paths}


def codes(item):
    return [f.code for f in item.findings]


def write_object(path, *, sop_class, pixels=None, **attributes):
    """Write a small DICOM object of any kind."""
    d = Dataset()
    d.SOPClassUID, d.SOPInstanceUID, d.SeriesInstanceUID = sop_class, generate_uid(), generate_uid()
    for keyword, value in attributes.items():
        setattr(d, keyword, value)
    if pixels is not None:
        d.Rows, d.Columns = pixels.shape[:2]
        d.SamplesPerPixel = 1 if pixels.ndim == 2 else pixels.shape[2]
        d.PhotometricInterpretation = attributes.get("PhotometricInterpretation", "MONOCHROME2")
        d.BitsAllocated = d.BitsStored = 8 * pixels.itemsize
        d.HighBit, d.PixelRepresentation = d.BitsStored - 1, 0
        d.PixelData = pixels.tobytes()
        d["PixelData"].VR = "OW"
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.save_as(path, enforce_file_format=True)


@pytest.fixture
def mixed(tmp_path, make_image):
    """Return a folder of about everything."""
    write_series(make_image(), tmp_path / "ct", name="a")
    write_series(make_image("PSL"), tmp_path / "mr" / "deep er", name="b", modality="MR")
    (tmp_path / "DICOMDIR").write_bytes(b"")
    (tmp_path / "report.txt").write_text("no image")
    (tmp_path / "case_01_0000.nii.gz").touch()
    nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([-1, -1, 2, 1])).to_filename(
        tmp_path / "case_01_0000.nii.gz"
    )
    nib.Nifti1Image(np.zeros((4, 5, 6, 3), np.int16), np.diag([-1, -1, 2, 1])).to_filename(tmp_path / "four.nii")
    Image.fromarray(np.zeros((6, 7, 3), np.uint8)).save(tmp_path / "photo.png")
    write_object(tmp_path / "sr", sop_class=pydicom.uid.BasicTextSRStorage, Modality="SR")
    write_object(tmp_path / "rt", sop_class=pydicom.uid.RTStructureSetStorage, Modality="RTSTRUCT")
    grey = np.arange(42, dtype=np.uint8).reshape(6, 7)
    write_object(
        tmp_path / "dx.dcm",
        sop_class=pydicom.uid.DigitalXRayImageStorageForPresentation,
        Modality="DX",
        pixels=grey,
        ImagerPixelSpacing=[0.2, 0.3],
    )
    write_object(
        tmp_path / "screen.dcm", sop_class=pydicom.uid.SecondaryCaptureImageStorage, Modality="CT", pixels=grey
    )
    rgb = np.zeros((6, 7, 3), np.uint8)
    write_object(
        tmp_path / "us.dcm",
        sop_class=pydicom.uid.UltrasoundImageStorage,
        Modality="US",
        pixels=rgb,
        PhotometricInterpretation="RGB",
    )
    return tmp_path


EXPECTED = {
    "ct/slice_0001.dcm": ("series", "ok", []),
    "mr/deep er/slice_0003.dcm": ("series", "ok", []),
    "DICOMDIR": ("other", "ignored", ["empty-file"]),
    "report.txt": ("other", "ignored", ["not-dicom"]),
    "case_01_0000.nii.gz": ("volume", "ok", []),
    "four.nii": ("volume", "repairable", ["four-d"]),
    "photo.png": ("image", "ok", ["two-dimensional"]),
    "sr": ("other", "ignored", ["not-an-image"]),
    "rt": ("rtstruct", "ignored", ["derived-object"]),
    "dx.dcm": ("image", "ok", ["two-dimensional"]),
    "screen.dcm": ("other", "ignored", ["derived-object", "no-geometry"]),
    "us.dcm": ("image", "refused", ["colour", "two-dimensional", "no-geometry"]),
}


@pytest.mark.parametrize("deep", [False, True])
def test_every_file_is_in_one_item(mixed, deep):
    inventory = inspect_folder(mixed, deep=deep)
    files = sorted(p.relative_to(mixed).as_posix() for p in mixed.rglob("*") if p.is_file())
    assert sorted(path for item in inventory.items for path in item.paths) == files
    assert inventory.files == len(files)
    found = by_path(inventory)
    assert {path: (found[path].kind, found[path].status, codes(found[path])) for path in EXPECTED} == EXPECTED
    assert len({item.id for item in inventory.items}) == len(inventory.items)


def test_the_document_has_the_keys_of_the_contract(mixed):
    document = inspect_folder(mixed).to_json()
    assert list(document) == ["path", "files", "items"]
    keys = ["id", "kind", "paths", "modality", "transfer_syntax", "shape", "volumes", "spacing_mm", "orientation"]
    keys += ["affine_lps", "status", "findings"]
    for item in document["items"]:
        assert list(item) == keys
        assert all(list(f) == ["code", "severity", "message", "remedy"] for f in item["findings"])
    ct = next(item for item in document["items"] if item["kind"] == "series")
    assert ct["shape"] == [5, 6, 7]
    assert ct["orientation"] == "axial"
    assert ct["transfer_syntax"] == "1.2.840.10008.1.2.1"
    dx = next(item for item in document["items"] if item["modality"] == "DX")
    assert (dx["affine_lps"], dx["orientation"], dx["spacing_mm"]) == (None, "none", [1.0, 0.2, 0.3])


def test_an_item_does_not_depend_on_where_it_is_looked_at_from(mixed):
    ids = {item.id for item in inspect_folder(mixed).items if item.kind == "series"}
    assert {item.id for folder in ("ct", "mr") for item in inspect_folder(mixed / folder).items} == ids
    (one,) = inspect_folder(mixed / "ct" / "slice_0002.dcm").items
    assert one.id in ids
    assert one.paths == ("slice_0002.dcm",)


def test_a_list_of_files_is_looked_at_as_a_folder_is(mixed):
    files = [p for p in mixed.rglob("*") if p.is_file()]
    assert inspect_files(files).to_json()["items"] == inspect_folder(mixed).to_json()["items"]
    with pytest.raises(InputError, match="no such file"):
        inspect_files([mixed / "absent"])


def test_an_absent_path_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        inspect_folder(tmp_path / "absent")
    assert inspect_folder(tmp_path).items == ()


def test_preamble_extension_and_file_meta_may_be_absent(tmp_path, make_image):
    image = make_image()
    for path in write_series(image, tmp_path / "s"):
        dataset = pydicom.dcmread(path)
        pydicom.dcmwrite(path.with_suffix(""), Dataset(dataset), implicit_vr=True, little_endian=True)
        path.unlink()
        assert is_dicom(path.with_suffix(""))
    (item,) = inspect_folder(tmp_path).items
    assert (item.status, item.transfer_syntax) == ("ok", None)
    np.testing.assert_array_equal(read_series(item).array, image.array)


def test_equal_ids_are_told_apart_by_path(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([-1, -1, 2, 1])).to_filename(tmp_path / folder / "x.nii")
    first, second = inspect_folder(tmp_path).items
    assert first.id != second.id
    assert all(item.id.startswith("x-") and len(item.id) == 10 for item in (first, second))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("case_07.nii.gz", "case_07"),
        ("case_07_0000.nii.gz", "case_07"),
        ("a.b.nrrd", "a.b"),
        ("no_suffix", "no_suffix"),
        (".hidden", "hidden-"),
        ("con.nii", "con-"),
        ("a b.png", "a-b-"),
        ("x" * 300 + ".nii", "x" * 91 + "-"),
        ("..", ""),
    ],
)
def test_ids_are_safe_names(name, expected):
    made = id_of_file(name, name)
    assert made.startswith(expected)
    assert made == expected or len(made) == len(expected) + 8
    assert len(made) <= 100
    assert id_of_series("", "x").startswith("dicom-")
    assert id_of_series("C T/..", "x").startswith("ct..-")


def test_loops_and_dead_links_end(tmp_path, make_image):
    write_series(make_image(), tmp_path / "s")
    (tmp_path / "s" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "dead").symlink_to(tmp_path / "nowhere")
    inventory = inspect_folder(tmp_path)
    assert inventory.files == 6
    assert by_path(inventory)["dead"].status == "ignored"


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes")
def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (item,) = inspect_folder(tmp_path).items
    assert (item.status, codes(item)) == ("ignored", ["unreadable"])


@pytest.mark.parametrize("keep", [140, 200, 400, 700])
def test_a_file_cut_within_its_header_is_no_crash(keep, tmp_path, make_image):
    paths = write_series(make_image(), tmp_path / "s")
    paths[0].write_bytes(paths[0].read_bytes()[:keep])
    inventory = inspect_folder(tmp_path, deep=True)
    assert inventory.files == len(paths)
    assert by_path(inventory)["s/slice_0002.dcm"].status == "ok"


def test_random_bytes_behind_dicoms_mark_are_no_crash(tmp_path):
    rng = np.random.default_rng(11)
    for n in range(40):
        body = rng.integers(0, 256, 400, dtype=np.uint8).tobytes()
        (tmp_path / f"{n:02}.dcm").write_bytes(bytes(128) + b"DICM" + body)
        (tmp_path / f"{n:02}").write_bytes(b"\x08\x00\x05\x00CS\x0a\x00" + body)
    inventory = inspect_folder(tmp_path, deep=True)
    assert inventory.files == 80
    assert {item.status for item in inventory.items} <= {"ignored", "refused"}


def test_a_deflate_bomb_is_refused_before_it_unpacks(tmp_path, make_image, monkeypatch):
    monkeypatch.setattr(lengths, "_MAX_INFLATED", 2**21)
    path = write_series(make_image(shape=(1, 6, 7)), tmp_path / "s")[0]
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    assert inspect_folder(tmp_path).items[0].status == "ok"
    content = path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    packer = zlib.compressobj(wbits=-15)
    bomb = packer.compress(bytes(2**22)) + packer.flush()
    path.write_bytes(content[:start] + bomb)
    (item,) = inspect_folder(tmp_path).items
    assert (item.kind, item.status, codes(item)) == ("unreadable", "refused", ["unreadable"])


def test_progress_is_told_and_may_cancel(mixed):
    steps = []
    inventory = inspect_folder(mixed, progress=steps.append)
    assert [(s.stage, s.done, s.total) for s in steps] == [
        ("inspect", n + 1, len(steps)) for n in range(inventory.files)
    ]

    def stop(_):
        raise Cancelled

    with pytest.raises(Cancelled):
        inspect_folder(mixed, progress=stop)


def test_non_finite_voxels_are_found_by_decoding(tmp_path):
    array = np.zeros((4, 5, 6), np.float32)
    array[1, 2, 3] = np.nan
    nib.Nifti1Image(array, np.diag([-1, -1, 2, 1])).to_filename(tmp_path / "x.nii")
    assert inspect_folder(tmp_path).items[0].status == "ok"
    (item,) = inspect_folder(tmp_path, deep=True).items
    assert (item.status, codes(item)) == ("refused", ["non-finite"])


def test_a_short_nifti_is_refused_from_its_length(tmp_path):
    nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([-1, -1, 2, 1])).to_filename(tmp_path / "x.nii")
    Path(tmp_path / "x.nii").write_bytes(Path(tmp_path / "x.nii").read_bytes()[:-10])
    (item,) = inspect_folder(tmp_path).items
    assert item.status == "refused"


@pytest.mark.parametrize("name", ["scan.zip", "SCAN.TAR.GZ", "slice.dcm.gz"])
def test_archives_are_named_as_such(name, tmp_path):
    (tmp_path / name).write_bytes(b"PK\x03\x04" + bytes(200))
    (item,) = inspect_folder(tmp_path).items
    assert (item.status, codes(item)) == ("ignored", ["not-dicom"])
    assert "archive" in item.findings[0].message
    assert "Unpack" in item.findings[0].remedy

"""Siemens mosaics made from a known volume: taken apart, every tile is back at its place; what is absent is said."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage, generate_uid

from medseg.io import read_volume
from medseg.io.dicom import inspect_folder, read_series
from medseg.io.dicom.source import Repairs

SPLIT = Repairs(mosaic="split")


def csa(entries, *, version=2):
    """Return a CSA header: names and texts, as the scanner packs them."""
    base = 0
    out = b"SV10\4\3\2\1" if version == 2 else b""
    out += struct.pack("<2I", len(entries), 77)
    for n, (name, texts) in enumerate(entries.items()):
        items = [t.encode() + b"\0" for t in texts] or [b""]
        if n == 0:
            base = len(items)
        out += struct.pack("<64si4s3i", name.encode(), len(texts), b"FD", 3, len(items), 77)
        for item in items:
            out += struct.pack("<4i", len(item) + (base if version == 1 else 0), len(item), 77, len(item))
            out += item + bytes(-len(item) % 4)
    return out


def protocol(centres):
    """Return the part of a protocol that says where slices have their centres; zeros are not written."""
    lines = ["### ASCCONV BEGIN ###"]
    for n, centre in enumerate(centres):
        for axis, value in zip(("Sag", "Cor", "Tra"), centre, strict=True):
            if value:
                lines.append(f"sSliceArray.asSlice[{n}].sPosition.d{axis}\t = \t{value:.8f}")
    return "\n".join(lines).encode()


@pytest.fixture
def make_mosaic(tmp_path, make_image):
    """Return a function that writes a volume as one mosaic; gives the volume and the path."""

    def make(
        slices=5,
        *,
        name="it",
        version=2,
        reverse=False,
        says=("count", "normal", "protocol"),
        nominal_mm=None,
        syntax=ExplicitVRLittleEndian,
        value=0,
        **grid,
    ):
        image = make_image(shape=(slices, 6, 8), dtype=np.uint16, low=0, seed=value, **grid)
        geometry, side = image.geometry, int(np.ceil(np.sqrt(slices)))
        order = range(slices)[::-1] if reverse else range(slices)
        big = np.zeros((6 * side, 8 * side), np.uint16)
        for tile, z in enumerate(order):
            r, c = divmod(tile, side)
            big[6 * r : 6 * r + 6, 8 * c : 8 * c + 8] = image.array[0, z]
        direction, (gap, row, column) = geometry.directions_lps, geometry.spacing_mm
        first = geometry.to_lps([order[0], 0, 0])
        corner = first - direction[:, 1] * row * 6 * (side - 1) / 2 - direction[:, 2] * column * 8 * (side - 1) / 2
        d = Dataset()
        d.SOPClassUID, d.SOPInstanceUID = MRImageStorage, generate_uid()
        d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = "1.2.1", "1.2.2", "1.2.3"
        d.Modality, d.Manufacturer, d.ImageType = "MR", "SIEMENS", ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
        d.InstanceNumber = d.AcquisitionNumber = value + 1
        d.ImagePositionPatient = [f"{v:.8g}" for v in corner]
        d.ImageOrientationPatient = [f"{v:.10f}"[:16] for v in (*direction[:, 2], *direction[:, 1])]
        d.PixelSpacing, d.SliceThickness = [f"{row:g}", f"{column:g}"], f"{gap:g}"
        if nominal_mm:
            d.SpacingBetweenSlices = nominal_mm
        d.Rows, d.Columns = big.shape
        d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
        d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
        d.PixelData = big.tobytes()
        d["PixelData"].VR = "OW"
        entries = {"EchoLinePosition": ["1"]}
        if "count" in says:
            entries["NumberOfImagesInMosaic"] = [str(slices)]
        if "normal" in says:
            entries["SliceNormalVector"] = [f"{v * (-1 if reverse else 1):.8f}" for v in direction[:, 0]]
        block = d.private_block(0x29, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x10, "OB", csa(entries, version=version))
        if "protocol" in says:
            block.add_new(0x20, "OB", protocol([geometry.to_lps([z, 2.5, 3.5]) for z in order]))
        if "public" in says:
            d.private_block(0x19, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", slices)
        d.file_meta = FileMetaDataset()
        d.file_meta.TransferSyntaxUID = syntax
        d.save_as(tmp_path / name, enforce_file_format=True)
        return image, tmp_path / name

    return make


def the_item(path):
    (item,) = inspect_folder(path).items
    return item


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("slices", [2, 5, 9])
def test_tiles_lie_where_their_slices_were(slices, reverse, version, make_mosaic, assert_same_in_world):
    image, path = make_mosaic(slices, version=version, reverse=reverse, rotation_deg=(9, -14, 5))
    item = the_item(path)
    assert (item.status, item.shape) == ("repairable", (slices, 6, 8))
    assert [f.code for f in item.findings] == ["mosaic", "oblique"]
    assert_same_in_world(read_series(item, repairs=SPLIT), image, tol_mm=2e-3)


@pytest.mark.parametrize("codes", ["SPL", "PSL", "LSP", "ARI"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_in_any_plane(codes, syntax, make_mosaic, assert_same_in_world):
    image, path = make_mosaic(4, codes=codes, syntax=syntax)
    assert_same_in_world(read_series(the_item(path), repairs=SPLIT), image, tol_mm=2e-3)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("codes", ["SPL", "PSL", "LSP", "ARI"])
def test_dcm2niix_puts_the_tiles_there_too(codes, reverse, tmp_path, make_mosaic, assert_same_in_world):
    program = shutil.which("dcm2niix", path=str(Path(sys.executable).parent)) or shutil.which("dcm2niix")
    if program is None:
        pytest.skip("dcm2niix is not installed (pip install dcm2niix)")
    _, path = make_mosaic(codes=codes, reverse=reverse, nominal_mm=3.0)
    subprocess.run([program, "-b", "n", "-z", "n", "-f", "it", "-o", str(tmp_path), str(tmp_path)], check=True)
    assert_same_in_world(read_series(the_item(path), repairs=SPLIT), read_volume(tmp_path / "it.nii"), tol_mm=0.01)


def test_the_protocol_tells_the_spacing_better_than_the_nominal_one(make_mosaic, assert_same_in_world):
    image, path = make_mosaic(nominal_mm=7.5)
    assert_same_in_world(read_series(the_item(path), repairs=SPLIT), image, tol_mm=2e-3)
    image, path = make_mosaic(says=("public", "normal"), nominal_mm=3.0, syntax=ImplicitVRLittleEndian)
    assert_same_in_world(read_series(the_item(path), repairs=SPLIT), image, tol_mm=2e-3)


def test_several_mosaics_are_volumes(tmp_path, make_mosaic, assert_same_in_world):
    images = [make_mosaic(value=n, name=f"{9 - n}")[0] for n in range(3)]
    item = the_item(tmp_path)
    assert (item.volumes, [f.code for f in item.findings]) == (3, ["mosaic", "four-d"])
    for n, image in enumerate(images):
        assert_same_in_world(read_series(item, repairs=Repairs(volume=n, mosaic="split")), image, tol_mm=2e-3)


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ((), "of how many slices"),
        (("normal", "protocol"), "of how many slices"),
        (("count", "protocol"), "which way the slices rise"),
        (("count", "normal"), "how far the slices are apart"),
    ],
)
def test_what_the_scanner_does_not_say_is_not_guessed(says, words, make_mosaic):
    _, path = make_mosaic(says=says)
    item = the_item(path)
    assert (item.status, item.geometry, item.findings[0].code) == ("refused", None, "mosaic")
    assert words in item.reason
    assert "--mosaic" not in item.findings[0].remedy


def test_a_count_that_does_not_fit_the_image_is_refused(make_mosaic):
    _, path = make_mosaic(5)
    d = pydicom.dcmread(path)
    for count, words in (("17", "no even tiles"), ("99999999999", "of how many"), ("-4", "of how many")):
        d[0x29, 0x1010].value = csa({"A": [], "NumberOfImagesInMosaic": [count], "SliceNormalVector": ["0", "0", "1"]})
        d.save_as(path)
        assert words in the_item(path).reason


def test_a_damaged_private_header_is_no_crash(tmp_path, make_mosaic):
    _, path = make_mosaic()
    raw = path.read_bytes()
    start, end = raw.index(b"SV10"), raw.rindex(b"\xe0\x7f\x10\x00")
    path.unlink()
    rng = np.random.default_rng(23)
    for n in range(100):
        damaged = bytearray(raw)
        for at in rng.integers(start, end, rng.integers(1, 30)):
            damaged[at] = rng.integers(0, 256)
        (tmp_path / f"{n:03}").write_bytes(damaged)
    inventory = inspect_folder(tmp_path)
    assert inventory.files == 100
    assert {item.status for item in inventory.items} <= {"refused", "repairable", "ignored"}

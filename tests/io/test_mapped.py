"""Scans left in their files: which are, that nothing else changes, and that they take no memory of their own."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medseg import io
from medseg.errors import InputError
from medseg.geometry import Geometry
from medseg.io import nifti
from medseg.io.mapped import map_volume
from medseg.resample import resample
from medseg.volume import Volume, is_mapped, let_go

GRID = Geometry((4, 5, 6), np.array([[0, 0, 0.7, -180], [0, 0.7, 0, -170], [2.5, 0, 0, 900], [0, 0, 0, 1]]))
SLOPE, VOX_OFFSET = 112, 108


def written(path: Path, dtype: str = "int16", volumes: int = 1) -> np.ndarray:
    array = np.arange(volumes * np.prod(GRID.shape)).reshape(volumes, *GRID.shape).astype(dtype)
    io.write_volume(Volume(array, GRID, tuple(f"c{i}" for i in range(volumes))), path)
    return array


def same(a: Volume, b: Volume) -> bool:
    return a.array.dtype == b.array.dtype and np.array_equal(a.array, b.array) and a.geometry.same_grid(b.geometry)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "float32"])
def test_what_a_plain_file_holds_as_it_is_stays_there(dtype: str, tmp_path: Path) -> None:
    array = written(tmp_path / "a.nii", dtype, volumes=3)
    whole, last = map_volume(tmp_path / "a.nii"), map_volume(tmp_path / "a.nii", volume=2)
    assert same(whole, io.read_volume(tmp_path / "a.nii"))
    assert np.array_equal(last.array, array[2:])
    for volume in (whole, last):
        assert is_mapped(volume.array)
        assert not volume.array.flags.writeable
        assert type(volume.array) is np.ndarray
        let_go(volume.array)  # which changes no number
    assert np.array_equal(whole.array, array)
    assert not is_mapped(io.read_volume(tmp_path / "a.nii").array)


def scaled(path: Path, slope: float, intercept: float) -> None:
    written(path)
    block = bytearray(path.read_bytes())
    struct.pack_into("<2f", block, SLOPE, slope, intercept)
    path.write_bytes(block)


def turned_round(path: Path) -> None:
    array = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    header = nibabel.Nifti1Header(endianness=">")
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4), header=header), path)
    assert path.read_bytes()[:4] == struct.pack(">i", 348)


def off_by_one(path: Path) -> None:
    written(path)
    block = bytearray(path.read_bytes())
    struct.pack_into("<f", block, VOX_OFFSET, 353.0)
    path.write_bytes(block[:352] + b"\0" + block[352:])


def packed(path: Path) -> None:
    written(path)
    path.write_bytes(gzip.compress(path.read_bytes()))


def doubles(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((2, 3, 4)) / 3, np.eye(4)), path)


@pytest.mark.parametrize(
    "make",
    [lambda p: scaled(p, 1.0, -1024.0), lambda p: scaled(p, 0.5, 0.0), turned_round, off_by_one, packed, doubles],
    ids=["shifted", "scaled", "byte order", "place", "gzip", "float64"],
)
def test_what_must_be_made_is_made_and_is_the_same(make, tmp_path: Path) -> None:
    make(tmp_path / "a.nii")
    volume = map_volume(tmp_path / "a.nii")
    assert not is_mapped(volume.array)
    assert same(volume, io.read_volume(tmp_path / "a.nii"))


def test_other_formats_are_read(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "a.nrrd", "a.mha"):
        written(tmp_path / name)
        assert same(map_volume(tmp_path / name), io.read_volume(tmp_path / name))


def test_files_that_are_not_whole_are_refused_as_ever(tmp_path: Path) -> None:
    written(tmp_path / "a.nii")
    block = (tmp_path / "a.nii").read_bytes()
    for name, content in (("short.nii", block[:-1]), ("long.nii", block + bytes(65537)), ("none.nii", None)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as read:
            io.read_volume(tmp_path / name)
        with pytest.raises(InputError) as mapped:
            map_volume(tmp_path / name)
        assert str(mapped.value) == str(read.value)


def test_a_file_system_without_maps_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(19, "No such device")

    array = written(tmp_path / "a.nii")
    monkeypatch.setattr(np, "memmap", refuse)
    volume = map_volume(tmp_path / "a.nii")
    assert not is_mapped(volume.array)
    assert np.array_equal(volume.array, array)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody replace a mapped file")
def test_writing_over_the_file_leaves_the_scan_as_it_was(tmp_path: Path) -> None:
    array = written(tmp_path / "a.nii")
    volume = map_volume(tmp_path / "a.nii")
    io.write_volume(Volume(volume.array + np.int16(1), GRID), tmp_path / "a.nii")
    assert np.array_equal(volume.array, array)
    assert np.array_equal(io.read_volume(tmp_path / "a.nii").array, array + 1)


def test_a_map_that_is_written_to_keeps_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(8192))
    own = np.memmap(tmp_path / "a.bin", np.uint8, mode="c")
    own[5] = 7
    let_go(own)
    assert own[5] == 7


def test_another_order_of_axes_is_a_view_where_that_is_allowed(tmp_path: Path) -> None:
    written(tmp_path / "a.nii", volumes=2)
    volume = map_volume(tmp_path / "a.nii")
    onto = GRID.reoriented("RAI")
    view, copy = resample(volume, onto=onto, shared=True), resample(volume, onto=onto)
    assert is_mapped(view.array)
    assert not is_mapped(copy.array)
    assert same(view, copy)
    beyond = GRID.pad((1, 1, 1), (1, 1, 1))
    assert not is_mapped(resample(volume, onto=beyond, shared=True).array)


PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from medseg.batch.finite import finite
from medseg.io import nifti
from medseg.io.mapped import map_volume
from medseg.labels import LabelSet
from medseg.plan import *
from medseg.preprocess import WorkingImage
from medseg.report import overlay_png
from medseg.volume import Segmentation

def held(key):
    return int(Path("/proc/self/status").read_text().partition(key + ":")[2].split()[0]) * 1024

spec = UNetSpec(dimensions=3, features=(4, 8), strides=((1, 1, 1), (2, 2, 2)), kernels=((3, 3, 3),) * 2)
plan = Plan(
    channels=("CT",), labels=LabelSet.from_names({1: "liver"}), network=spec,
    preprocess=PreprocessPlan(spacing_mm=(2, 4, 4), normalisation=(ClipZScore(low=0, high=9, mean=4, std=2),)),
    train=TrainPlan(patch_size=(32, 32, 32), batch_size=1, epochs=1, steps_per_epoch=1),
)
small = map_volume(sys.argv[1])
WorkingImage(small, plan).slices(0, 4)  # what libraries set up when first called
mask = np.zeros(small.geometry.shape, np.uint8)
overlay_png(small, Segmentation(mask, small.geometry, plan.labels))
before, most, resident = held("RssAnon"), 0, held("VmRSS")
scan, _ = finite(map_volume(sys.argv[2]), fill=False)
image = WorkingImage(scan, plan)
for start in range(0, image.shape[1], 32):
    image.slices(start, min(start + 32, image.shape[1]))
    most = max(most, held("RssAnon") - before)
seen = held("VmRSS") - resident
mask = np.zeros(scan.geometry.shape, np.uint8)
mask[10:20, 10:20, 10:20] = 1
own = held("RssAnon")
overlay_png(scan, Segmentation(mask, scan.geometry, plan.labels))
print(scan.array.nbytes, most, seen, held("RssAnon") - own - mask.nbytes)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells anonymous memory apart")
def test_a_mapped_scan_takes_no_memory_of_its_own(tmp_path: Path) -> None:
    for name, slices in (("small.nii", 8), ("large.nii", 400)):
        grid = Geometry((slices, 160, 256), GRID.affine)
        nifti.write(np.ones((1, *grid.shape), np.float32), grid, tmp_path / name)
    child = [sys.executable, "-c", PROGRAM, str(tmp_path / "small.nii"), str(tmp_path / "large.nii")]
    text = subprocess.run(child, capture_output=True, text=True, check=True).stdout
    array, most, resident, preview = (int(word) for word in text.split())
    assert array > 60e6
    assert most < array / 2
    assert resident < array / 2  # pages that were looked at are given back
    assert preview < array / 2

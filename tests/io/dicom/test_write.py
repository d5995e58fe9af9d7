from __future__ import annotations

import itertools
import shutil
import subprocess

import numpy as np
import pytest

from medseg.errors import OutputError
from medseg.io.dicom import inspect_folder, read_series, write_series
from medseg.volume import Volume

ORIENTATIONS = [
    "".join(axes) for pairs in itertools.permutations(("RL", "AP", "IS")) for axes in itertools.product(*pairs)
]


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_every_orientation_comes_back_in_the_same_place(codes, tmp_path, make_image, assert_same_in_world):
    image = make_image(codes)
    write_series(image, tmp_path / "s")
    back = read_series(tmp_path / "s")
    assert back.array.dtype == np.int16
    assert back.channels == ("CT",)
    assert_same_in_world(image, back)


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("tilt_deg", [0.0, 14.0, -21.5])
@pytest.mark.parametrize("rotation_deg", [(0, 0, 0), (17, -31, 48), (0.4, 0.1, -0.2)])
def test_oblique_and_tilted_grids_come_back(
    modality, rotation_deg, tilt_deg, tmp_path, make_image, assert_same_in_world
):
    image = make_image("SPL", rotation_deg=rotation_deg, tilt_deg=tilt_deg)
    write_series(image, tmp_path / "s", modality=modality)
    (item,) = inspect_folder(tmp_path).items
    back = read_series(item)
    assert item.status == "ok"
    assert ("gantry-tilt" in {f.code for f in item.findings}) == (tilt_deg != 0) == back.geometry.is_sheared
    assert back.geometry.same_grid(image.geometry, 1e-3)
    assert_same_in_world(image, back)


def test_a_tenth_of_a_degree_is_kept_but_is_no_shear(tmp_path, make_image):
    image = make_image(tilt_deg=0.1, shape=(40, 6, 7))
    write_series(image, tmp_path / "s")
    back = read_series(tmp_path / "s")
    assert not back.geometry.is_sheared
    assert back.geometry.same_grid(image.geometry, 1e-3)
    assert not back.geometry.same_grid(make_image(shape=(40, 6, 7)).geometry, 0.2)


@pytest.mark.parametrize(
    ("dtype", "low", "high", "read_as"),
    [
        (np.uint8, 0, 255, np.uint16),
        (np.uint16, 0, 65535, np.uint16),
        (np.int16, -32768, 32767, np.int16),
        (np.int32, -300, 300, np.int16),
    ],
)
def test_values_of_any_sign_come_back(dtype, low, high, read_as, tmp_path, make_image):
    image = make_image(dtype=dtype, low=low, high=high)
    write_series(image, tmp_path / "s", modality="MR")
    back = read_series(tmp_path / "s")
    assert back.array.dtype == read_as
    np.testing.assert_array_equal(back.array, image.array)


def test_ct_below_air_and_beyond_int16_comes_back(tmp_path, make_image):
    image = make_image(dtype=np.int32, low=-1024, high=60000)
    write_series(image, tmp_path / "s")
    back = read_series(tmp_path / "s")
    assert back.array.dtype == np.int32
    np.testing.assert_array_equal(back.array, image.array)


def test_the_same_name_gives_the_same_bytes(tmp_path, make_image):
    first = write_series(make_image(), tmp_path / "a", name="x")
    second = write_series(make_image(), tmp_path / "b", name="x")
    other = write_series(make_image(), tmp_path / "c", name="y")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert first[0].read_bytes() != other[0].read_bytes()


def test_what_the_object_cannot_hold_is_refused(tmp_path, make_image, make_grid):
    image = make_image()
    with pytest.raises(OutputError, match="modality XY"):
        write_series(image, tmp_path / "s", modality="XY")
    with pytest.raises(OutputError, match="whole numbers"):
        write_series(Volume(image.array.astype(np.float32), image.geometry), tmp_path / "s")
    wide = Volume(np.array([[[[0, 70000]]]], np.int32), make_grid(shape=(1, 1, 2)))
    with pytest.raises(OutputError, match="16 bits"):
        write_series(wide, tmp_path / "s")
    write_series(image, tmp_path / "s")
    with pytest.raises(OutputError, match="holds files already"):
        write_series(image, tmp_path / "s")


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_dciodvfy_finds_no_error(modality, tmp_path, make_image):
    path = write_series(make_image(low=0), tmp_path / "s", modality=modality)[0]
    result = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    assert [line for line in result.stderr.splitlines() if line.startswith("Error")] == []
    assert result.returncode == 0

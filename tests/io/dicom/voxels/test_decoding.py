from __future__ import annotations

import contextlib
import tracemalloc
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.uid import JPEGLSLossless, RLELossless

from medseg.errors import InputError, MedsegError
from medseg.io.dicom import write_series
from medseg.io.dicom.source import Slice
from medseg.io.dicom.voxels import decoding
from medseg.io.dicom.voxels.decoding import cut, decode, planes


def write(path, stored_zyx, *, syntax=None, bits=None, **changes):
    """Write an image as one file, of as many frames as it has slices."""
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    dataset.remove_private_tags()
    dataset.Rows, dataset.Columns = stored_zyx.shape[1:]
    dataset.BitsAllocated = 8 * stored_zyx.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(stored_zyx.dtype.kind == "i")
    dataset.RescaleIntercept = 0
    for keyword in ("PixelPaddingValue", "SmallestImagePixelValue", "LargestImagePixelValue"):
        if keyword in dataset:
            del dataset[keyword]
    if len(stored_zyx) > 1:
        dataset.NumberOfFrames = len(stored_zyx)
    dataset.PixelData = stored_zyx.tobytes()
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    if syntax is not None:
        dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(path)
    return path


def noise(*shape, dtype=np.int16, low=-900, high=900, seed=0):
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGLSLossless])
def test_each_slice_lands_at_its_place_whatever_file_and_frame_it_is_from(syntax, tmp_path):
    image = noise(9, 12, 10)
    first, second = write(tmp_path / "a", image[:5], syntax=syntax), write(tmp_path / "b", image[5:8], syntax=syntax)
    single = write(tmp_path / "c", image[8:], syntax=syntax)
    where = [*(Slice(first, n) for n in range(5)), *(Slice(second, n) for n in range(3)), Slice(single)]
    order = np.random.default_rng(4).permutation(9)
    np.testing.assert_array_equal(decode([where[n] for n in order]), image[order])
    some = [where[n] for n in (7, 1, 8)]
    np.testing.assert_array_equal(decode(some), image[[7, 1, 8]])
    np.testing.assert_array_equal(decode([where[2], where[2]]), image[[2, 2]])


def test_each_header_is_read_once(tmp_path, monkeypatch):
    paths = [write(tmp_path / name, noise(4, 8, 8), syntax=RLELossless) for name in ("a", "b")]
    opened = []
    real = decoding.open_pixels
    monkeypatch.setattr(decoding, "open_pixels", lambda path: opened.append(path) or real(path))
    decode([Slice(path, n) for n in range(4) for path in paths])
    assert sorted(opened) == paths


@pytest.mark.parametrize("syntax", [None, RLELossless])
def test_reading_holds_the_result_and_a_few_frames(syntax, tmp_path):
    image = noise(80, 128, 128)
    path = write(tmp_path / "a", image, syntax=syntax)
    slices = [Slice(path, n) for n in range(80)]
    decode(slices[:2])
    tracemalloc.start()
    decode(slices)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    for _, plane in planes(slices):
        assert plane.shape == (128, 128)
    _, walked = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    frame = image[0].nbytes
    assert peak < image.nbytes + 25 * frame
    assert walked < 40 * frame


def test_planes_are_the_slices_of_the_whole(tmp_path):
    image = noise(6, 7, 5)
    slices = [Slice(write(tmp_path / str(n), image[n : n + 1], RescaleIntercept=n)) for n in range(6)]
    whole = decode(slices)
    found = dict(planes(slices))
    assert sorted(found) == list(range(6))
    for z, plane in found.items():
        np.testing.assert_array_equal(plane, whole[z])
        np.testing.assert_array_equal(plane, image[z] + z)


@pytest.mark.parametrize("order", [1, -1])
def test_files_of_other_types_are_widened(order, tmp_path):
    parts = [
        noise(1, 4, 4),
        noise(1, 4, 4, dtype=np.uint16, low=0, high=60000),
        noise(1, 4, 4, dtype=np.uint8, low=0, high=255),
    ]
    slices = [Slice(write(tmp_path / str(n), part)) for n, part in enumerate(parts)][::order]
    found = decode(slices)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, np.concatenate(parts[::order]).astype(np.int32))


def test_the_tiles_of_a_mosaic_are_cut_out(tmp_path):
    image = noise(7, 4, 6)
    mosaic = np.zeros((12, 18), np.int16)
    for n, plane in enumerate(image):
        mosaic[n // 3 * 4 : n // 3 * 4 + 4, n % 3 * 6 : n % 3 * 6 + 6] = plane
    for syntax in (None, RLELossless):
        path = write(tmp_path / "a", mosaic[None], syntax=syntax)
        np.testing.assert_array_equal(decode([Slice(path, tile=n) for n in range(7)]), image)
    np.testing.assert_array_equal(cut(mosaic, tile=4, count=9), image[4])
    with pytest.raises(InputError) as caught:
        cut(mosaic, tile=0, count=17)
    assert caught.value.code == "mosaic"


def test_what_does_not_fit_is_said(tmp_path):
    small, large = write(tmp_path / "small.dcm", noise(2, 4, 4)), write(tmp_path / "large.dcm", noise(1, 5, 4))
    with pytest.raises(InputError, match=r"large\.dcm.*5 x 4.*4 x 4") as caught:
        decode([Slice(small), Slice(large)])
    assert caught.value.code == "mixed-size"
    with pytest.raises(InputError, match=r"small\.dcm.*frame 3 is not there"):
        decode([Slice(small, 2)])
    with pytest.raises(InputError, match="no slice"):
        decode([])


def test_more_than_memory_holds_is_said(tmp_path, monkeypatch):
    path = write(tmp_path / "a", noise(1, 4, 4))

    def full(shape, dtype):
        raise MemoryError

    monkeypatch.setattr(decoding.np, "empty", full)
    with pytest.raises(InputError, match="memory"):
        decode([Slice(path)])


def test_an_empty_image_compresses_beyond_measure_and_is_read(tmp_path):
    image = np.full((1, 2048, 2048), 7, np.int16)
    path = write(tmp_path / "a", image, syntax=JPEGLSLossless)
    assert path.stat().st_size < image.nbytes / 200
    np.testing.assert_array_equal(decode([Slice(path)]), image)


def test_an_error_in_a_thread_ends_the_reading(tmp_path, make_image):
    paths = write_series(make_image(shape=(40, 6, 7)), tmp_path / "s")
    paths[20].write_bytes(paths[20].read_bytes()[:-5])
    steps = []
    with pytest.raises(InputError, match="slice_0021") as caught:
        decode([Slice(path) for path in paths], progress=steps.append)
    assert caught.value.code == "truncated"


REAL = (
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small.dcm",
    "image_dfl.dcm",
)


@settings(max_examples=80)
@given(st.data())
def test_damage_never_ends_in_a_traceback(tmp_path_factory, data):
    name = data.draw(st.sampled_from(REAL))
    content = bytearray(Path(get_testdata_file(name, download=False)).read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.dcm"
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    with contextlib.suppress(MedsegError):
        assert decode([Slice(path)]).ndim == 3

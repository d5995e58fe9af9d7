from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless

from medseg.io.dicom import inspect_folder, write_series
from medseg.io.dicom.inventory.deep import decoded


def only(folder, **options):
    (item,) = inspect_folder(folder, **options).items
    return item


def test_whole_series_stay_as_they_are(tmp_path, make_image):
    write_series(make_image(), tmp_path / "s")
    steps = []
    item = only(tmp_path)
    assert decoded([item], steps.append) == (item,)
    assert [(step.stage, step.done, step.total, step.message) for step in steps] == [("decode", 1, 1, item.id)]


def test_voxels_that_are_no_numbers_are_counted_over_all_slices(tmp_path, make_image):
    paths = write_series(make_image(shape=(4, 6, 7)), tmp_path / "s")
    for z, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        values = np.ones((6, 7), np.float32)
        values[: z % 3, 0] = np.nan
        for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
            del dataset[keyword]
        dataset.BitsAllocated = 32
        dataset.FloatPixelData = values.tobytes()
        dataset.save_as(path)
    item = only(tmp_path, deep=True)
    assert item.status == "refused"
    assert [f.message for f in item.findings if f.code == "non-finite"] == [
        "3 voxels are not numbers (NaN or infinite)"
    ]


@pytest.mark.parametrize("number", [0, 4])
def test_a_slice_that_does_not_decode_is_named(number, tmp_path, make_image):
    paths = write_series(make_image(), tmp_path / "s")
    dataset = pydicom.dcmread(paths[number])
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.PixelData = pydicom.encaps.encapsulate([b"\1" * 80])
    dataset.save_as(paths[number])
    assert only(tmp_path).status == "ok"
    item = only(tmp_path, deep=True)
    assert item.status == "refused"
    (found,) = [f for f in item.findings if f.code == "undecodable"]
    assert paths[number].name in found.message
    assert "RLE Lossless" in found.message

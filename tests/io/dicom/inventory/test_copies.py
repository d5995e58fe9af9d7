"""Files that hold what another one holds already."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from medseg.io.dicom import inspect_folder, read_series, write_series


@pytest.fixture
def series(tmp_path, make_image):
    image = make_image(shape=(5, 6, 7))
    return image, write_series(image, tmp_path / "in", name="s")


def send_again(path, to, **changes):
    d = pydicom.dcmread(path)
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for keyword, value in changes.items():
        setattr(d, keyword, value)
    d.save_as(to)


def test_what_was_sent_again_under_other_uids_is_dropped(tmp_path, series):
    image, paths = series
    for path in paths[1:4]:
        send_again(path, tmp_path / "in" / f"again-{path.name}")
    (item,) = inspect_folder(tmp_path).items
    assert (item.status, [f.code for f in item.findings]) == ("ok", ["duplicate-instance"])
    assert len(item.paths) == 8
    np.testing.assert_array_equal(read_series(item).array, image.array)


@pytest.mark.parametrize("change", [{"PixelData": bytes(84)}, {"InstanceNumber": 77}, {"TriggerTime": "90"}])
def test_what_differs_is_no_copy(change, tmp_path, series):
    send_again(series[1][2], tmp_path / "in" / "again", **change)
    (item,) = inspect_folder(tmp_path).items
    assert (item.status, [f.code for f in item.findings]) == ("refused", ["duplicate-position"])


def test_a_file_cut_short_is_no_copy(tmp_path, series):
    send_again(series[1][2], tmp_path / "in" / "again")
    whole = (tmp_path / "in" / "again").read_bytes()
    (tmp_path / "in" / "again").write_bytes(whole[:-20])
    (item,) = inspect_folder(tmp_path).items
    assert item.status == "refused"
    assert "truncated" in {f.code for f in item.findings}

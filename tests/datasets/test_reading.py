from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from medseg.case import Case
from medseg.datasets import check_dataset, content_sha256, for_each, open_dataset, read_case, read_images, with_labels
from medseg.errors import InputError
from medseg.progress import Cancelled, Step

if TYPE_CHECKING:
    from pathlib import Path

    from tests.datasets.conftest import Writer


def test_a_case_is_image_and_mask_on_one_grid(writer: Writer) -> None:
    dataset = open_dataset(writer.decathlon())
    image, mask = read_case(dataset.cases[0], labels=dataset.labels, channels=dataset.channels)
    assert image.channels == ("CT",)
    assert image.array.shape == (1, 8, 7, 6)
    assert mask.geometry is image.geometry
    assert mask.voxel_counts() == {1: 56, 2: 56}


def test_a_mask_stored_along_other_axes_is_turned(writer: Writer) -> None:
    dataset = open_dataset(writer.decathlon())
    case = dataset.cases[0]
    assert case.reference is not None
    expected = read_case(case, labels=dataset.labels)[1]
    stored = nib.load(case.reference)
    turned = stored.as_reoriented(np.array([[1, -1], [2, 1], [0, -1]]))
    nib.save(nib.Nifti1Image(np.asarray(turned.dataobj), turned.affine), case.reference)
    assert not check_dataset(writer.root).findings
    found = read_case(case, labels=dataset.labels)[1]
    np.testing.assert_array_equal(found.array, expected.array)
    assert found.geometry.same_grid(expected.geometry)


def test_a_dicom_series_and_its_nifti_mask_are_one_case(test_data: Path) -> None:
    series = test_data / "dicom" / "sarcoma" / "STS_002" / "dicom" / "CT" / "image"
    converted = test_data / "dicom" / "sarcoma" / "STS_002" / "nifti"
    mask = converted / "CT_mask.nii.gz"
    image, drawn = read_case(Case("s", (series,), mask))
    again, same = read_case(Case("s", (converted / "CT_image.nii.gz",), mask))
    inside = image.array[0][drawn.array > 0].astype(float)
    assert inside.size > 1000
    assert inside.mean() == pytest.approx(float(again.array[0][same.array > 0].mean()), abs=1e-3)


def test_a_mask_on_another_grid_is_refused(writer: Writer) -> None:
    dataset = open_dataset(writer.decathlon())
    writer.mask("labelsTr/case_0.nii.gz", spacing=2)
    with pytest.raises(InputError, match="case_0: the mask lies on the grid"):
        read_case(dataset.cases[0])


def test_channels_on_another_grid_come_onto_the_first(writer: Writer) -> None:
    ramp = np.broadcast_to(np.arange(8.0, dtype=np.float32)[:, None, None], (8, 8, 8))
    first = writer.save("a.nii.gz", np.array(ramp))
    coarse = (np.arange(4.0, dtype=np.float32) * 2)[:, None, None]
    second = writer.save("b.nii.gz", np.array(np.broadcast_to(coarse, (4, 4, 4))), spacing=2)
    image = read_images([first, second], channels=["T1", "T2"])
    assert image.array.shape == (2, 8, 8, 8)
    np.testing.assert_allclose(image.array[1, :6, :6, :6], image.array[0, :6, :6, :6], atol=1e-5)


def test_wrong_number_of_channels_is_refused(writer: Writer) -> None:
    path = writer.image("a.nii.gz")
    with pytest.raises(InputError, match="2 channel names"):
        read_images([path], channels=["T1", "T2"])


def test_a_volume_is_no_picture_to_be_coloured(writer: Writer) -> None:
    path = writer.image("a.nii.gz")
    with pytest.raises(InputError, match="3 channel names"):
        read_images([path], channels=["red", "green", "blue"])
    slice_ = writer.image("b.nii.gz", shape=(6, 7, 1))  # one slice, whatever the file's format
    assert read_images([slice_], channels=["red", "green", "blue"]).array.shape == (3, 1, 7, 6)


def test_content_hash_follows_bytes_only(writer: Writer) -> None:
    writer.image("x/a.nii")
    mask = writer.mask("x/m.nii")
    copied = writer.root / "elsewhere.nii"
    copied.write_bytes((writer.root / "x/a.nii").read_bytes())
    first = content_sha256(Case("c", (writer.root / "x/a.nii",), mask))
    assert content_sha256(Case("c", (copied,), mask)) == first
    copied.write_bytes(copied.read_bytes()[:-1] + b"\1")
    assert content_sha256(Case("c", (copied,), mask)) != first


def test_labels_are_found_in_the_masks_where_none_are_named(writer: Writer) -> None:
    for name, values in (("a", (1, 3)), ("b", (3, 7))):
        writer.image(f"images/{name}.nii.gz")
        writer.mask(f"masks/{name}.nii.gz", values=values)
    dataset = with_labels(open_dataset(writer.root))
    assert dataset.labels.ids == (1, 3, 7)
    assert dataset.labels.names == ("label_1", "label_3", "label_7")


def test_work_keeps_the_order_reports_and_can_be_stopped(writer: Writer) -> None:
    cases = open_dataset(writer.decathlon(4)).cases
    steps: list[Step] = []
    assert for_each(lambda case: case.id, cases, stage="x", progress=steps.append) == tuple(c.id for c in cases)
    assert [step.done for step in steps] == [1, 2, 3, 4]

    def stop(step: Step, /) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        for_each(lambda case: case.id, cases, stage="x", progress=stop)

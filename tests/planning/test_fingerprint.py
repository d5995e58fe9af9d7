from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from medseg.datasets import open_dataset
from medseg.errors import InputError
from medseg.planning import fingerprint

if TYPE_CHECKING:
    from pathlib import Path


def write(root: Path, name: str, image: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> None:
    for folder, array in (("images", image), ("masks", mask)):
        (root / folder).mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(array, affine), root / folder / f"{name}.nii.gz")


def make(root: Path) -> Path:
    for n, name in enumerate(("a", "b")):
        mask = np.zeros((4, 5, 6), np.uint8)
        mask[0] = 1
        mask[1, :2] = 2
        image = np.full((4, 5, 6), -1000.0, np.float32)
        image[mask > 0] = 10.0 + n
        write(root, name, image, mask, np.diag([1.0, 2.0, 3.0, 1.0]))
    return root


def test_shapes_and_intensities(tmp_path: Path) -> None:
    found = fingerprint(open_dataset(make(tmp_path), channels=["CT"]))
    assert [case.id for case in found.cases] == ["a", "b"]
    assert found.cases[0].shape == (6, 5, 4)
    assert found.cases[0].spacing_mm == pytest.approx((3.0, 2.0, 1.0))
    assert found.cases[0].label_voxels == {1: 30, 2: 12}
    channel = found.channels[0]
    assert (channel.name, channel.minimum, channel.maximum) == ("CT", 10.0, 11.0)
    assert channel.mean == pytest.approx(10.5)
    assert channel.std == pytest.approx(0.5)
    assert found.labels.names == ("label_1", "label_2")


def test_stored_orientation_plays_no_part(tmp_path: Path) -> None:
    make(tmp_path)
    before = fingerprint(open_dataset(tmp_path, channels=["MR"]))
    for folder in ("images", "masks"):
        path = tmp_path / folder / "a.nii.gz"
        image = nib.load(path)
        turned = image.as_reoriented(np.array([[2, -1], [0, 1], [1, 1]]))
        nib.save(nib.Nifti1Image(np.asarray(turned.dataobj), turned.affine), path)
    after = fingerprint(open_dataset(tmp_path, channels=["MR"]))
    assert after.cases == before.cases
    assert after.channels == before.channels
    assert after.content_sha256 != before.content_sha256


def test_same_data_gives_the_same_fingerprint(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path), channels=["MR"])
    assert fingerprint(dataset) == fingerprint(dataset)
    alone = fingerprint(dataset, cases=dataset.cases[:1])
    assert len(alone.cases) == 1


def test_voxels_that_are_not_finite_are_named(tmp_path: Path) -> None:
    make(tmp_path)
    mask = np.ones((4, 5, 6), np.uint8)
    write(tmp_path, "b", np.full((4, 5, 6), np.nan, np.float32), mask, np.eye(4))
    with pytest.raises(InputError, match="b"):
        fingerprint(open_dataset(tmp_path, channels=["MR"]))


def test_no_foreground_at_all_is_said_in_words(tmp_path: Path) -> None:
    write(tmp_path, "a", np.zeros((4, 4, 4), np.float32), np.zeros((4, 4, 4), np.uint8), np.eye(4))
    with pytest.raises(InputError, match="no mask holds"):
        fingerprint(open_dataset(tmp_path, channels=["MR"]))


def test_real_data(test_data: Path) -> None:
    dataset = open_dataset(test_data / "hippocampus")
    found = fingerprint(dataset, cases=dataset.cases[:10])
    assert np.median([case.shape for case in found.cases], axis=0) == pytest.approx((35, 50, 35), abs=4)
    assert all(set(case.label_voxels) == {1, 2} for case in found.cases)
    assert found.channels[0].name == "MRI"

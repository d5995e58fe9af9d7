"""Versions: none is ever written over, each is what was saved, two are compared on one grid."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.io import write_segmentation
from medseg.io.hashing import file_sha256
from medseg.labels import LabelSet
from medseg.metrics.overlap import dice
from medseg.resample import resample
from medseg.review import Versions, compare
from medseg.volume import Segmentation
from tests.review.conftest import GRID, LABELS, mask_of

if TYPE_CHECKING:
    from pathlib import Path


def mask(first: int) -> Segmentation:
    return Segmentation(mask_of(first), GRID, LABELS)


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    predicted = tmp_path / "segmentation.nii.gz"
    write_segmentation(mask(0), predicted)
    return Versions(tmp_path / "review" / "a", predicted)


def test_a_save_is_a_new_file_and_the_prediction_stays(versions: Versions) -> None:
    before = versions.get(0)
    first = versions.save(mask(1), who="ada", parent=0, comment="moved")
    second = versions.save(mask(2), who="bob", parent=1)
    assert [v.number for v in versions.all()] == [0, 1, 2]
    assert versions.latest() == second
    assert versions.get(1) == first
    assert (first.who, first.comment, first.parent) == ("ada", "moved", 0)
    assert file_sha256(before.path) == before.sha256
    for number in (0, 1, 2):
        assert np.array_equal(versions.read(number, labels=LABELS).array, mask_of(number))


def test_saves_at_once_take_different_numbers(versions: Versions) -> None:
    with ThreadPoolExecutor(4) as pool:
        saved = list(pool.map(lambda n: versions.save(mask(n % 3), who=f"r{n}", parent=0), range(8)))
    assert sorted(v.number for v in saved) == list(range(1, 9))
    for version in saved:
        assert np.array_equal(versions.read(version.number).array, mask_of(int(version.who[1:]) % 3))


def test_a_number_whose_mask_never_came_is_passed_over(versions: Versions, tmp_path: Path) -> None:
    versions.save(mask(1), who="ada", parent=0)
    (tmp_path / "review" / "a" / "v0001.nii.gz").unlink()  # as after a crash before the mask took its name
    assert versions.latest().number == 0
    assert versions.save(mask(2), who="ada", parent=0).number == 2
    with pytest.raises(InputError, match="no version 1"):
        versions.get(1)


def test_a_version_that_was_changed_is_refused(versions: Versions) -> None:
    saved = versions.save(mask(1), who="ada", parent=0)
    write_segmentation(mask(2), saved.path)
    with pytest.raises(InputError, match="not what was saved"):
        versions.read(1)


def test_a_damaged_record_is_a_sentence(versions: Versions, tmp_path: Path) -> None:
    versions.save(mask(1), who="ada", parent=0)
    (tmp_path / "review" / "a" / "v0001.json").write_text('{"sha256": 3}')
    with pytest.raises(InputError, match="record of a version"):
        versions.latest()


def test_comparison_counts_every_voxel_once() -> None:
    first, second = mask_of(0), mask_of(2)
    found = compare(mask(0), mask(2))
    difference = found.difference_zyx
    assert found.dice == {"liver": dice(first == 1, second == 1), "spleen": dice(first == 2, second == 2)}
    assert found.voxels_differing == np.count_nonzero(first != second)
    assert np.array_equal(difference == 1, (first == 0) & (second > 0))
    assert np.array_equal(difference == 2, (first > 0) & (second == 0))
    assert np.array_equal(difference == 3, (first > 0) & (second > 0) & (first != second))


def test_comparison_pairs_labels_by_name() -> None:
    swapped = LabelSet.from_names({1: "spleen", 2: "liver", 5: "kidney"})
    array = mask_of(0)
    other = Segmentation(np.where(array > 0, 3 - array, 0).astype(np.uint8), GRID, swapped)
    found = compare(mask(0), other)
    assert found.dice == {"liver": 1.0, "spleen": 1.0, "kidney": None}
    assert found.voxels_differing == 0


def test_comparison_takes_another_grid_onto_the_first() -> None:
    other = resample(mask(1), onto=GRID.reoriented("LAI").pad((1, 2, 0), (0, 1, 3)))
    assert compare(mask(1), other).voxels_differing == 0

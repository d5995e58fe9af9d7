from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from medseg.errors import PlanError
from medseg.plan import TrainPlan
from medseg.training.patches import PatchSampler
from medseg.training.store import PreparedCase

if TYPE_CHECKING:
    from pathlib import Path

Size = tuple[int, int, int]


def make_case(folder: Path, shape: Size, *, value: int = 1, voxel: Size | None = None) -> PreparedCase:
    """A case whose two channels say where each voxel lies, with one voxel of foreground."""
    folder.mkdir()
    place = np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape)
    label = np.zeros(shape, np.uint8)
    table = np.zeros((0, 3), np.int32)
    if voxel is not None:
        label[voxel] = value
        table = np.array([voxel], np.int32)
    np.save(folder / "image.npy", np.stack([place, -place]))
    np.save(folder / "label.npy", label)
    np.save(folder / "foreground.npy", table)
    return PreparedCase(folder.name, folder, shape, {value: (0, 1)} if voxel else {})


def plan(patch: Size, fraction: float = 0.33) -> TrainPlan:
    return TrainPlan(patch_size=patch, batch_size=2, foreground_fraction=fraction)


def test_patches_are_parts_of_their_image(tmp_path: Path) -> None:
    case = make_case(tmp_path / "a", (12, 14, 16), voxel=(3, 3, 3))
    images, labels = PatchSampler([case], plan((4, 6, 8)), seed=0).draw(20)
    assert images.shape == (20, 2, 4, 6, 8)
    assert labels.shape == (20, 4, 6, 8)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.uint8
    whole = np.array(case.image_czyx[0])
    for image, label in zip(images, labels, strict=True):
        z, y, x = np.unravel_index(int(image[0, 0, 0, 0]) - 1, whole.shape)
        block = (slice(z, z + 4), slice(y, y + 6), slice(x, x + 8))
        np.testing.assert_array_equal(image[0].numpy(), whole[block])
        np.testing.assert_array_equal(image[1].numpy(), -whole[block])
        np.testing.assert_array_equal(label.numpy(), case.label_zyx[block])
    assert len({int(image[0, 0, 0, 0]) for image in images}) > 5


@pytest.mark.parametrize(("fraction", "n", "least"), [(0.33, 2, 1), (0.33, 6, 2), (1.0, 3, 3), (0.1, 4, 1)])
def test_the_last_patches_of_a_batch_hold_foreground(tmp_path: Path, fraction: float, n: int, least: int) -> None:
    case = make_case(tmp_path / "a", (40, 40, 40), voxel=(20, 21, 22))
    sampler = PatchSampler([case], plan((4, 4, 4), fraction), seed=0)
    for _ in range(5):
        _, labels = sampler.draw(n)
        for label in labels[n - least :]:
            assert label[2, 2, 2] == 1


def test_a_single_patch_is_on_foreground_as_often_as_asked(tmp_path: Path) -> None:
    case = make_case(tmp_path / "a", (60, 60, 60), voxel=(30, 30, 30))
    sampler = PatchSampler([case], plan((2, 2, 2), 0.25), seed=0)
    share = np.mean([bool(sampler.draw(1)[1].any()) for _ in range(400)])
    assert 0.17 < share < 0.33


def test_no_foreground_is_asked_for_at_zero(tmp_path: Path) -> None:
    case = make_case(tmp_path / "a", (60, 60, 60), voxel=(30, 30, 30))
    _, labels = PatchSampler([case], plan((2, 2, 2), 0.0), seed=0).draw(50)
    assert not labels.any()


def test_foreground_at_the_edge_stays_inside(tmp_path: Path) -> None:
    case = make_case(tmp_path / "a", (9, 9, 9), voxel=(0, 8, 4))
    images, labels = PatchSampler([case], plan((4, 4, 4), 1.0), seed=0).draw(3)
    assert (labels.flatten(1).sum(dim=1) == 1).all()
    assert (images[:, 0] > 0).all()


def test_small_images_stand_in_the_middle_of_zeros(tmp_path: Path) -> None:
    case = make_case(tmp_path / "a", (4, 10, 6), voxel=(1, 1, 1))
    images, labels = PatchSampler([case], plan((8, 8, 8)), seed=0).draw(4)
    inner = images[:, 0, 2:6, :, 1:7]
    assert (inner > 0).all()
    assert (images[:, 0] != 0).sum() == inner.numel()
    assert not labels[:, :2].any()


def test_larger_cuts_have_the_patch_in_their_middle(tmp_path: Path) -> None:
    case = make_case(tmp_path / "a", (20, 20, 20), voxel=(10, 10, 10))
    small = PatchSampler([case], plan((8, 8, 8)), seed=3)
    large = PatchSampler([case], plan((8, 8, 8)), seed=3, extract_size=(14, 8, 10))
    for _ in range(5):
        a, b = small.draw(2)
        c, d = large.draw(2)
        assert c.shape == (2, 2, 14, 8, 10)
        assert torch.equal(c[:, :, 3:11, :, 1:9], a)
        assert torch.equal(d[:, 3:11, :, 1:9], b)


def test_slices(tmp_path: Path) -> None:
    case = make_case(tmp_path / "a", (5, 20, 20), voxel=(2, 9, 9))
    images, labels = PatchSampler([case], plan((1, 8, 8), 1.0), seed=0, extract_size=(1, 12, 12)).draw(2)
    assert images.shape == (2, 2, 1, 12, 12)
    assert labels[:, 0, 6, 6].tolist() == [1, 1]


def test_every_case_comes_once_before_any_comes_again(tmp_path: Path) -> None:
    cases = [make_case(tmp_path / f"{i}", (8, 8, 8), value=i, voxel=(4, 4, 4)) for i in range(1, 8)]
    sampler = PatchSampler(cases, plan((8, 8, 8), 0.0), seed=0)
    for _ in range(3):
        _, labels = sampler.draw(7)
        assert sorted(labels[:, 4, 4, 4].tolist()) == list(range(1, 8))


def test_rare_labels_are_as_likely_as_common_ones(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    label = np.ones((30, 30, 30), np.uint8)
    label[7, 7, 7] = 2
    common = np.argwhere(label == 1)[::50].astype(np.int32)
    np.save(folder / "image.npy", np.zeros((1, 30, 30, 30), np.float32))
    np.save(folder / "label.npy", label)
    np.save(folder / "foreground.npy", np.concatenate([common, [[7, 7, 7]]]).astype(np.int32))
    case = PreparedCase("a", folder, (30, 30, 30), {1: (0, len(common)), 2: (len(common), len(common) + 1)})
    _, labels = PatchSampler([case], plan((3, 3, 3), 1.0), seed=0).draw(300)
    assert 0.4 < float((labels[:, 1, 1, 1] == 2).float().mean()) < 0.6


def test_a_case_without_foreground_gives_random_patches(tmp_path: Path) -> None:
    images, _ = PatchSampler([make_case(tmp_path / "a", (9, 9, 9))], plan((4, 4, 4), 1.0), seed=0).draw(10)
    assert len({int(image[0, 0, 0, 0]) for image in images}) > 3


def test_many_classes_keep_their_numbers(tmp_path: Path) -> None:
    case = make_case(tmp_path / "a", (8, 8, 8), voxel=(4, 4, 4))
    label = np.full((8, 8, 8), 60000, np.uint16)
    np.save(case.folder / "label.npy", label)
    _, labels = PatchSampler([case], plan((4, 4, 4)), seed=0).draw(1)
    assert labels.dtype == torch.int32
    assert (labels == 60000).all()


def test_the_same_seed_draws_the_same(tmp_path: Path) -> None:
    case = make_case(tmp_path / "a", (20, 20, 20), voxel=(4, 4, 4))
    first, again, other = (PatchSampler([case], plan((4, 4, 4)), seed=seed).draw(6)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_saved_state_goes_on_bit_by_bit(tmp_path: Path) -> None:
    cases = [make_case(tmp_path / f"{i}", (20, 20, 20), voxel=(4, 4, 4)) for i in range(5)]
    sampler = PatchSampler(cases, plan((4, 4, 4)), seed=1)
    sampler.draw(3)
    file = io.BytesIO()
    torch.save(sampler.state_dict(), file)
    expected = [sampler.draw(2) for _ in range(6)]
    file.seek(0)
    resumed = PatchSampler(cases, plan((4, 4, 4)), seed=99)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for image, label in expected:
        found = resumed.draw(2)
        assert torch.equal(found[0], image)
        assert torch.equal(found[1], label)


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    case = make_case(tmp_path / "a", (8, 8, 8))
    with pytest.raises(PlanError, match="no case"):
        PatchSampler([], plan((4, 4, 4)), seed=0)
    with pytest.raises(PlanError, match="do not fit"):
        PatchSampler([case], plan((4, 4, 4)), seed=0, extract_size=(4, 4, 3))
    state = PatchSampler([case] * 9, plan((4, 4, 4)), seed=0)
    state.draw(1)
    with pytest.raises(PlanError, match="another set"):
        PatchSampler([case], plan((4, 4, 4)), seed=0).load_state_dict(state.state_dict())

"""Voxels nobody decided on, from file to patch: -1 in the store, never foreground, never scored, kept when turned."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from medseg.datasets import open_dataset, with_labels
from medseg.errors import InputError, PlanError
from medseg.labels import LabelSet
from medseg.plan import AugmentPlan, Plan
from medseg.training.patches import PatchSampler
from medseg.training.scoring import PatchScore
from medseg.training.store import prepare_dataset
from medseg.transforms.augment import Augmentation
from tests.training.stand_ins import small_plan

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.case import Dataset
    from medseg.training.store import PreparedCase

SHAPE = (24, 20)
LABELS = LabelSet.from_names({3: "cell", 9: "wall"})
TURNED = AugmentPlan(
    rotation_probability=1.0, rotation_deg=(90.0, 0.0, 0.0), scaling_probability=1.0, scaling=(1.3, 1.4)
)


def plan_of(patch: tuple[int, int, int] = (1, 16, 16), **more: Any) -> Plan:
    document = small_plan(patch=patch, **more).model_dump(mode="json")
    return Plan.from_document(document | {"labels": LABELS.to_json(), "ignore_label": 255})


def truth() -> np.ndarray[Any, np.dtype[np.uint8]]:
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:14, 4:14] = 3
    mask[16:20, :4] = 9
    mask[13:16] = 255
    return mask


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    for folder, array in (("images", truth() // 2), ("masks", truth())):
        (tmp_path / folder).mkdir()
        Image.fromarray(array).save(tmp_path / folder / "a.png")
    (tmp_path / "labels.yaml").write_text("cell: 3\nwall: 9\nignore: 255\n")
    return with_labels(open_dataset(tmp_path))


@pytest.fixture
def stored(dataset: Dataset, tmp_path: Path) -> PreparedCase:
    return prepare_dataset(dataset.cases, plan_of(), tmp_path / "store").cases[0]


def test_the_store_holds_minus_one(stored: PreparedCase) -> None:
    label = stored.label_zyx
    expected = np.select([truth() == 3, truth() == 9, truth() == 255], [1, 2, -1], 0)
    np.testing.assert_array_equal(label[0], expected)
    assert label.dtype == np.int16
    assert stored.classes == (1, 2)
    assert all((label[tuple(voxels.T)] == number).all() for number, voxels in stored.foreground.items())


def test_a_plan_that_ignores_nothing_refuses_the_value(dataset: Dataset, tmp_path: Path) -> None:
    plan = plan_of().with_settings(["ignore_label=null"])
    with pytest.raises(InputError, match="holds the value 255"):
        prepare_dataset(dataset.cases, plan, tmp_path / "store")


def test_a_plan_cannot_ignore_what_it_learns() -> None:
    with pytest.raises(PlanError, match="ignore_label is 9, which is a label"):
        plan_of().with_settings(["ignore_label=9"])
    assert small_plan().ignore_label is None


def test_patches_beyond_the_image_are_undecided(stored: PreparedCase) -> None:
    plan = plan_of((1, 32, 32))
    images, labels = PatchSampler([stored], plan.train, seed=0).draw(4)
    assert labels.dtype == torch.int16
    inside = (slice(None), slice(None), slice(4, 28), slice(6, 26))
    np.testing.assert_array_equal(labels[inside], np.broadcast_to(stored.label_zyx, (4, 1, *SHAPE)))
    labels[inside] = -1
    assert (labels == -1).all()
    assert images.shape == (4, 1, 1, 32, 32)


def test_what_turns_in_from_outside_is_undecided_and_the_rest_keeps_its_labels() -> None:
    plan = plan_of(augment=TURNED)
    augmentation = Augmentation(plan)
    label = torch.ones(augmentation.extract_size, dtype=torch.int16)
    label[:, :, : label.shape[2] // 2] = 2
    small = torch.full_like(label, -1)
    middle = (slice(None), *(slice(n // 2 - 4, n // 2 + 4) for n in label.shape[1:]))
    small[middle] = label[middle]
    for seed in range(5):
        _, moved = augmentation(torch.zeros(1, *label.shape), label, seed=seed)
        _, cut = augmentation(torch.zeros(1, *label.shape), small, seed=seed)
        assert moved.dtype == torch.int16
        assert set(moved.unique().tolist()) <= {-1, 1, 2}
        assert (moved == -1).sum() == 0  # the cut around the patch is large enough that nothing is made up
        assert torch.equal(cut[cut != -1], moved[cut != -1])
    for undecided, value in ((plan, -1), (plan.model_copy(update={"ignore_label": None}), 0)):
        varied = Augmentation(undecided)
        small = torch.ones(*varied.patch, dtype=torch.int16)[None]  # corners turn in from beyond it
        seen = [varied(torch.zeros(1, *small.shape), small, seed=seed)[1].unique().tolist() for seed in range(5)]
        assert [value, 1] in seen
        assert all(set(values) <= {value, 1} for values in seen)


def test_patch_scores_leave_undecided_voxels_out() -> None:
    """A network that is right wherever somebody decided scores 1, whatever it says elsewhere."""
    image = torch.zeros(1, 1, 1, 8, 8)
    label = torch.zeros(1, 1, 8, 8, dtype=torch.int16)
    label[..., :3], label[..., 5:] = 1, -1

    class Fixed:
        def draw(self, n: int, /) -> tuple[torch.Tensor, torch.Tensor]:
            return image, label

        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state: dict[str, Any], /) -> None:
            pass

    class Says(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found = torch.zeros(1, 3, 8, 8)
            found[:, 0], found[:, 1, :, :3], found[:, 2, :, 5:] = 0.5, 1.0, 1.0
            return found

    engine: Any = SimpleNamespace(autocast=torch.no_grad, to_device=lambda x: x)
    assert PatchScore(Fixed(), plan_of((1, 8, 8)))(Says(), engine) == (1.0, None)

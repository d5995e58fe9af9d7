from __future__ import annotations

import pytest
import torch

from medseg.plan import AugmentPlan
from medseg.training.feed import Batch, Feed
from medseg.transforms.augment import Augmentation
from tests.training.stand_ins import Balls, small_plan

VARIED = AugmentPlan(rotation_probability=1.0, noise_probability=1.0)


def _feed(*, ahead: int = 0, rank: int = 0, seed: int = 0) -> Feed:
    plan = small_plan(augment=VARIED, seed=seed)
    return Feed(Balls(Augmentation(plan).extract_size, seed=1), plan, rank=rank, ahead=ahead)


def _same(a: Batch, b: Batch) -> bool:
    return torch.equal(a.image, b.image) and torch.equal(a.label, b.label)


def test_batches_have_the_shapes_of_the_plan() -> None:
    with _feed() as feed:
        batch = feed.take()
    assert batch.image.shape == (2, 1, 8, 8, 8)
    assert batch.label.shape == (2, 8, 8, 8)


def test_threads_change_no_number() -> None:
    with _feed() as plain, _feed(ahead=3) as threaded:
        assert all(_same(plain.take(), threaded.take()) for _ in range(5))


@pytest.mark.parametrize("ahead", [0, 3])
def test_goes_on_after_the_last_batch_taken(ahead: int) -> None:
    with _feed(ahead=ahead) as feed, _feed(ahead=ahead) as later:
        for _ in range(2):
            feed.take()
        later.load_state_dict(feed.state_dict())
        assert all(_same(feed.take(), later.take()) for _ in range(3))


def test_seed_and_rank_make_different_variations() -> None:
    with _feed() as feed, _feed(rank=1) as rank, _feed(seed=1) as seed:
        first, other_rank, other_seed = feed.take(), rank.take(), seed.take()
    assert not _same(first, other_rank)
    assert not _same(first, other_seed)


def test_an_error_in_a_thread_reaches_the_caller() -> None:
    plan = small_plan(augment=VARIED)
    with Feed(Balls((4, 4, 4)), plan, ahead=2) as feed:
        shapes = feed.take().image.shape
    assert shapes == (2, 1, 8, 8, 8)

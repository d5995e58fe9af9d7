"""What is chosen to tidy: on masks whose islands, lesions and holes are known, and the tidying itself as the oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from medseg.evaluation import LabelTrial, Tidying, choose, label_trials, score_case
from medseg.evaluation.tidying import earns_its_place
from medseg.geometry import Geometry
from medseg.labels import LabelSet
from medseg.postprocess import PostprocessPlan, apply
from medseg.volume import Segmentation

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPE = (14, 16, 18)
LABELS = LabelSet.from_names({1: "organ", 4: "lesion"})
TIDYINGS = [
    Tidying(),
    Tidying(largest_component=True),
    Tidying(minimum_ml=0.02),
    Tidying(fill_holes=True),
    Tidying(largest_component=True, fill_holes=True),
    Tidying(minimum_ml=0.02, fill_holes=True),
]


def segmentation(array: NDArray[Any], ignore: int | None = None) -> Segmentation:
    return Segmentation(array, Geometry(array.shape, np.diag([2.0, 1.0, 1.0, 1.0])), LABELS, ignore)


def boxes(*corners: tuple[int, int, int, int], label: int = 1) -> NDArray[np.uint8]:
    """Cubes of (z, y, x, side)."""
    mask = np.zeros(SHAPE, dtype=np.uint8)
    for z, y, x, side in corners:
        mask[z : z + side, y : y + side, x : x + side] = label
    return mask


def trials(pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]], label: int = 1) -> list[LabelTrial]:
    return [label_trials(segmentation(predicted), segmentation(true))[label] for predicted, true in pairs]


@pytest.mark.parametrize("ignore", [None, 9])
@pytest.mark.parametrize(
    ("shape", "tidying"), [(SHAPE, t) for t in TIDYINGS] + [((1, 40, 41), t) for t in TIDYINGS[:4]]
)
def test_the_dice_told_is_that_of_the_tidied_mask(
    shape: tuple[int, int, int], tidying: Tidying, ignore: int | None
) -> None:
    rng = np.random.default_rng(3)
    predicted = ((rng.random(shape) < 0.55) * 1).astype(np.uint8)
    true = np.roll(predicted, 1, axis=-1) | (rng.random(shape) < 0.2).astype(np.uint8)
    predicted[..., 30:] *= 4
    true[..., 30:] *= 4
    if ignore:
        true[rng.random(shape) < 0.2] = ignore
    prediction, reference = segmentation(predicted), segmentation(true, ignore)
    told = label_trials(prediction, reference)
    for label_id in np.unique(predicted[predicted > 0]).tolist():
        plan = PostprocessPlan(
            (label_id,) * tidying.largest_component, {label_id: tidying.minimum_ml}, (label_id,) * tidying.fill_holes
        )
        measured = score_case(apply(prediction, plan), reference, label_ids=LABELS.ids)
        assert told[label_id].dice(tidying) == pytest.approx(measured.labels[label_id].dice, abs=1e-12)


def test_islands_cost_an_organ_its_largest_piece_only_and_two_true_pieces_stay() -> None:
    organ, island = (3, 3, 3, 6), (11, 11, 13, 3)
    assert choose(trials([(boxes(organ, island), boxes(organ))] * 3 + [(boxes(organ), boxes(organ))])) == Tidying(
        largest_component=True
    )
    assert choose(trials([(boxes(organ, island), boxes(organ, island))] * 4)) == Tidying()


def test_specks_among_lesions_get_a_minimum_below_the_smallest_true_one() -> None:
    lesions, speck = ((1, 1, 1, 4), (9, 9, 9, 3)), (1, 12, 12, 2)
    chosen = choose(trials([(boxes(*lesions, speck), boxes(*lesions))] * 4))
    assert not chosen.largest_component
    assert 8 * 0.002 < chosen.minimum_ml <= 27 * 0.002


def test_holes_are_filled_where_the_reference_has_none() -> None:
    solid = boxes((3, 3, 3, 6))
    hollow = solid.copy()
    hollow[5:7, 5:7, 5:7] = 0
    assert choose(trials([(hollow, solid)] * 3)) == Tidying(fill_holes=True)
    assert choose(trials([(hollow, hollow)] * 3)) == Tidying()


def test_a_mask_that_should_be_empty_and_becomes_so_is_right() -> None:
    speck, lesion = boxes((1, 1, 1, 2)), boxes((3, 3, 3, 5))
    chosen = choose(trials([(speck, speck * 0)] * 2 + [(lesion, lesion)] * 2))
    assert chosen == Tidying(minimum_ml=0.25)  # the volume of the lesion; the largest speck would stay


def test_gains_must_be_more_than_noise() -> None:
    assert earns_its_place(np.array([0.1, 0.1, 0.0, 0.0]))
    assert not earns_its_place(np.array([0.5, 0.0, 0.0, 0.0, 0.0]))  # one lucky case
    assert not earns_its_place(np.array([0.3, 0.3, -0.1, -0.1, -0.1]))  # worse in more cases than better
    assert not earns_its_place(np.array([0.1, 0.1, 0.1, -0.3]))
    assert not earns_its_place(np.zeros(0))
    assert choose([]) == Tidying()

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from medseg.geometry import Box
from medseg.inference import NumericPath, Segmenter
from medseg.plan import CrfPlan, InferPlan, Rescale, ZScore
from medseg.progress import Cancelled, Step
from medseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.geometry import Geometry
    from medseg.plan import Plan

AXIAL = np.fliplr(np.eye(3))  # columns: a step along z goes up, along y to the back, along x to the left
CPU = NumericPath()

CRF = InferPlan(crf=CrfPlan(iterations=3, appearance_sigma_intensity=0.3))


def hesitant(scan: Volume) -> Volume:
    """The scan with grey specks, about which a network that looks at brightness alone is in doubt."""
    specks = np.random.default_rng(3).random(scan.array.shape) < 0.03
    return Volume(np.where(specks, np.where(scan.array > 500, 480, 520), scan.array), scan.geometry, scan.channels)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_crf_of_the_plan_mends_what_the_network_is_in_doubt_about(
    dimensions: int,
    make_plan: Callable[..., Plan],
    bright: type,
    scan_of: Callable[..., Volume],
    truth_of: Callable[..., Any],
    centred: Callable[..., Geometry],
) -> None:
    geometry = centred((28, 26, 28), AXIAL * 1.5)
    scan, truth = hesitant(scan_of(geometry)), truth_of(geometry)
    plain = Segmenter(make_plan(dimensions=dimensions), [bright()], path=CPU)
    steps: list[Step] = []
    told = Segmenter(make_plan(dimensions=dimensions, infer=CRF), [bright()], path=CPU)
    before, after = plain.segment(scan), told.segment(scan, progress=steps.append)
    assert (before.segmentation.array != truth).sum() > 100
    assert (after.segmentation.array != truth).sum() < 0.2 * (before.segmentation.array != truth).sum()
    assert set(after.seconds) == {"prepare", "network", "crf", "restore"}
    units = [step.done for step in steps if step.stage == "crf"]
    assert units[0] == 0
    assert units[-1] == max(units) == 3 * (28 if dimensions == 2 else 1)
    assert before.confidence != after.confidence
    probabilities = told.probabilities(scan).array
    np.testing.assert_allclose(probabilities.sum(axis=0), 1.0, atol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(axis=0), after.segmentation.array)


def test_the_crf_is_switched_on_and_off(
    make_plan: Callable[..., Plan], bright: type, scan_of: Callable[..., Volume], centred: Callable[..., Geometry]
) -> None:
    scan = hesitant(scan_of(centred((20, 22, 20), AXIAL * 1.5)))
    plain, told = (Segmenter(make_plan(infer=infer), [bright()], path=CPU) for infer in (InferPlan(), CRF))
    assert plain.with_crf(on=True).plan.infer.crf == CrfPlan(appearance_sigma_intensity=0.04)  # a picture
    assert told.with_crf(on=True).plan == told.plan
    off = told.with_crf(on=False)
    assert off.plan == plain.plan
    np.testing.assert_array_equal(off.segment(scan).segmentation.array, plain.segment(scan).segmentation.array)


def test_a_region_is_refined_with_what_lies_around_it(
    make_plan: Callable[..., Plan], bright: type, scan_of: Callable[..., Volume], centred: Callable[..., Geometry]
) -> None:
    scan = hesitant(scan_of(centred((36, 32, 34), AXIAL * 1.5)))
    segmenter = Segmenter(make_plan(infer=CRF), [bright()], path=CPU)
    box = Box((12, 10, 4), (26, 24, 20))
    part = segmenter.segment(scan, region=box).segmentation.array
    assert (part[box.slices] != segmenter.segment(scan).segmentation.array[box.slices]).mean() < 0.002
    part[box.slices] = 0
    assert not part.any()


def test_a_person_can_stop_it_between_iterations_of_the_crf(
    make_plan: Callable[..., Plan], bright: type, scan_of: Callable[..., Volume], centred: Callable[..., Geometry]
) -> None:
    def stop(step: Step, /) -> None:
        if step.stage == "crf" and step.done == 1:
            raise Cancelled

    segmenter = Segmenter(make_plan(infer=CRF), [bright()], path=CPU)
    with pytest.raises(Cancelled):
        segmenter.segment(scan_of(centred((20, 22, 20), AXIAL * 1.5)), progress=stop)


def test_how_alike_is_alike_follows_from_the_normalisation(make_plan: Callable[..., Plan], bright: type) -> None:
    plan = make_plan()
    sigmas = {}
    for normalisation in (ZScore(), Rescale()):
        preprocess = plan.preprocess.model_copy(update={"normalisation": (normalisation,)})
        segmenter = Segmenter(plan.model_copy(update={"preprocess": preprocess}), [bright()], path=CPU)
        crf = segmenter.with_crf(on=True).plan.infer.crf
        assert crf is not None
        sigmas[normalisation.kind] = crf.appearance_sigma_intensity
    assert sigmas == {"zscore": 0.2, "rescale": 0.04}

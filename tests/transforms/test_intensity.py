from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg.errors import InputError, PlanError
from medseg.plan import ClipZScore, Rescale, ZScore
from medseg.transforms.intensity import normalise

HU = ClipZScore(low=-100, high=250, mean=50, std=40)


def noise(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(30, 200, shape).astype(np.float32))


def test_values_are_those_of_monai() -> None:
    from monai.transforms import NormalizeIntensity, ScaleIntensity, ScaleIntensityRange

    image = noise(3, 6, 7, 8)
    found = normalise(image, [ZScore(), HU, Rescale()])
    clipped = ScaleIntensityRange(a_min=-100, a_max=250, b_min=-100, b_max=250, clip=True)(image[1:2])
    expected = (
        NormalizeIntensity()(image[0:1]),
        NormalizeIntensity(subtrahend=50, divisor=40)(clipped),
        ScaleIntensity(minv=0, maxv=1)(image[2:3]),
    )
    for channel, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(
            channel[None], torch.as_tensor(wanted).as_subclass(torch.Tensor), rtol=1e-4, atol=1e-5
        )


def test_the_image_given_is_not_changed() -> None:
    image = noise(1, 4, 4, 4)
    before = image.clone()
    normalise(image, [ZScore()])
    assert torch.equal(image, before)


@pytest.mark.parametrize("how", [ZScore(), Rescale()])
@pytest.mark.parametrize("value", [0.0, 5.0, -1e6, 0.1, 1e30])
def test_a_constant_image_becomes_zero(how: ZScore | Rescale, value: float) -> None:
    assert not normalise(torch.full((1, 9, 9, 9), value), [how]).any()


def test_wild_intensities_keep_their_precision() -> None:
    image = noise(1, 20, 20, 20).double() * 1e4 + 1e6
    found = normalise(image.float(), [ZScore()]).double()
    exact = (image - image.mean()) / image.std(correction=0)
    assert (found - exact).abs().max() < 1e-4


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32, torch.float64])
def test_every_stored_type_becomes_float32(kind: torch.dtype) -> None:
    image = torch.arange(8).reshape(1, 2, 2, 2).to(kind)
    found = normalise(image, [Rescale()])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.flatten(), torch.arange(8) / 7)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused(value: float) -> None:
    image = noise(1, 3, 3, 3)
    image[0, 1, 2, 0] = value
    with pytest.raises(InputError, match="not finite") as caught:
        normalise(image, [HU])
    assert caught.value.code == "non-finite"


def test_one_normalisation_a_channel() -> None:
    with pytest.raises(PlanError, match="2, as the image"):
        normalise(noise(2, 3, 3, 3), [ZScore()])

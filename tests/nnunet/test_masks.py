from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from medseg.geometry import Geometry
from medseg.inference import Segmenter
from medseg.volume import Volume
from medseg.workflows.nnunet import ImportRequest, import_model
from tests.nnunet.folders import checkpoint, configuration, dataset, network, predicted, write_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray


def zscore(image: NDArray[Any], _: NDArray[Any]) -> NDArray[Any]:
    return np.stack([(c - c.mean()) / c.std() for c in image])


def zscore_inside(image: NDArray[Any], inside: NDArray[Any]) -> NDArray[Any]:
    for channel in image:
        values = channel[inside]
        channel[inside] = (values - values.mean()) / values.std()
    return image


def clipped(image: NDArray[Any], _: NDArray[Any]) -> NDArray[Any]:
    return (image.clip(-80, 120) - 40) / 30


def rescaled(image: NDArray[Any], _: NDArray[Any]) -> NDArray[Any]:
    return np.stack([(c - c.min()) / (c - c.min()).max() for c in image])


@dataclass(frozen=True)
class Situation:
    """A configuration, a scan, and what its grey values become."""

    own: dict[str, Any]
    shape: tuple[int, int, int] = (12, 20, 22)
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channels: int = 1
    turn: tuple[int, int, int] = (0, 1, 2)
    norm: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]] = zscore
    folds: int = 1
    margin: int = 0
    mirrored: tuple[int, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)


CT = {"normalization_schemes": ["CTNormalization"]}
TWO = {"channels": 2, "use_mask_for_norm": [True, True]}
THICK = {"spacing": [5.0, 1.2, 1.2]}
TORCH = {"is_seg": False, "force_separate_z": None, "memefficient_seg_resampling": False}
SITUATIONS = {
    "as stored": Situation(configuration()),
    "finer": Situation(configuration(), spacing=(1.2, 1.1, 0.9), shape=(12, 19, 23)),
    "coarser, CT": Situation(configuration(**CT), spacing=(0.6, 0.7, 0.5), shape=(25, 30, 41), norm=clipped),
    "thick slices": Situation(configuration(**CT, **THICK), spacing=(4.0, 1.0, 1.1), norm=clipped),
    "half the slices": Situation(configuration(**CT, **THICK), spacing=(2.5, 1.0, 1.1), norm=clipped),
    "turned": Situation(configuration(), shape=(20, 12, 22), spacing=(1.1, 1.3, 0.9), turn=(1, 0, 2)),
    "turned round": Situation(configuration(**THICK), shape=(20, 22, 12), spacing=(1.1, 0.9, 6.0), turn=(2, 0, 1)),
    "cropped": Situation(configuration(**TWO), channels=2, norm=zscore_inside, margin=3, spacing=(1.1, 1.0, 1.0)),
    "cropped and turned": Situation(
        configuration(**TWO, **THICK), (20, 22, 10), (1.0, 1.1, 4.0), 2, (2, 1, 0), zscore_inside, margin=2
    ),
    "residual": Situation(configuration(residual=True), spacing=(1.1, 1.0, 0.9)),
    "2-D": Situation(configuration(2), (5, 20, 22), (4.0, 1.1, 1.1)),
    "2-D turned": Situation(configuration(2, residual=True), (20, 5, 22), (1.1, 4.0, 1.0), turn=(1, 0, 2)),
    "folds, mirrored": Situation(configuration(), folds=2, mirrored=(0, 2), spacing=(1.1, 1.0, 0.9)),
    "2-D mirrored": Situation(configuration(2), (3, 20, 22), (4.0, 1.0, 1.0), mirrored=(0, 1)),
    "rescaled": Situation(configuration(normalization_schemes=["RescaleTo01Normalization"]), norm=rescaled),
    "PyTorch's interpolation": Situation(
        configuration(
            resampling_fn_data="resample_torch_fornnunet",
            resampling_fn_data_kwargs=TORCH | {"order": 1},
            resampling_fn_probabilities="resample_torch_fornnunet",
            resampling_fn_probabilities_kwargs=TORCH,
        ),
        spacing=(4.0, 1.2, 0.9),
        shape=(4, 18, 24),
    ),
}


def scan_of(situation: Situation) -> NDArray[Any]:
    """Smooth noise of some hundred units, with nothing around it and a hole in it where there is a margin."""
    rng = np.random.default_rng(5)
    from scipy.ndimage import gaussian_filter

    noise = rng.normal(size=(situation.channels, *situation.shape))
    image = np.stack([gaussian_filter(c, 1.2) for c in noise])
    image = (40 + 60 * image / image.std()).astype(np.float32)
    if situation.margin:
        m = situation.margin
        kept = np.zeros(situation.shape, dtype=bool)
        kept[m:-1, 1 : -m - 1, m:-m] = True
        middle = tuple(slice(n // 2 - 1, n // 2 + 1) for n in situation.shape)
        kept[middle] = False
        image[:, ~kept] = 0
    return image


@pytest.mark.parametrize("name", SITUATIONS)
def test_masks_are_those_of_nnunet(name: str, tmp_path: Path) -> None:
    situation = SITUATIONS[name]
    names = [f"channel {i}" for i in range(situation.channels)]
    networks = [network(situation.own, channels=situation.channels, seed=s) for s in range(situation.folds)]
    folds = {
        str(s): checkpoint(net.state_dict(), inference_allowed_mirroring_axes=situation.mirrored or None)
        for s, net in enumerate(networks)
    }
    back = [int(a) for a in np.argsort(situation.turn)]
    about = situation.about | {"transpose_forward": list(situation.turn), "transpose_backward": back}
    folder = write_folder(tmp_path, situation.own, folds, about=about, data=dataset(names))
    image = scan_of(situation)
    own, turn, mirrored = situation.own, situation.turn, situation.mirrored
    expected = predicted(image, situation.spacing, networks, own, turn=turn, norm=situation.norm, mirrored=mirrored)

    import_model(folder, tmp_path / "model", ImportRequest())
    segmenter = Segmenter.load(tmp_path / "model", precision="fp32", mirrored=True)
    assert segmenter.is_mirrored == bool(mirrored)
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.diag(situation.spacing[::-1])) @ np.diag([1, -1, 1])
    scan = Volume(image, Geometry(situation.shape, affine), tuple(names))
    mask = segmenter.segment(scan).segmentation.array

    assert (np.bincount(expected.ravel(), minlength=3) > 0.02 * expected.size).all()  # a mask that says something
    assert (mask == expected).mean() > 0.999
    most = segmenter.probabilities(scan).array.argmax(axis=0)
    assert (most == expected).mean() > 0.999

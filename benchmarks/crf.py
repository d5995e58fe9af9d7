"""The fully connected CRF: seconds and memory on whole images, and its error against the sum over all pairs.

Usage: python benchmarks/crf.py
Images are head phantoms, classes what a blur of 2 mm and noise leave of their truth. Each size runs in a process of its
own: wall time, processor time of all threads, and how far the resident memory rose above what image and logits take.
The errors are those of probabilities on tiny images, the sum over all pairs in double precision beside.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from medseg.networks.crf import mean_field
from medseg.phantom import head_mr
from medseg.plan import CrfPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

CLASSES = 3
SIZES = {
    "3-D 128 x 128 x 128, 1.5 mm": ((128, 128, 128), (1.5, 1.5, 1.5), 1),
    "3-D 128 x 128 x 128, 1.5 mm, 2 channels": ((128, 128, 128), (1.5, 1.5, 1.5), 2),
    "2-D 512 x 512, 0.45 mm": ((1, 512, 512), (5.0, 0.45, 0.45), 1),
}
TINY = {
    "3-D 12 x 18 x 20, 2 x 1 x 1 mm": ((12, 18, 20), (2.0, 1.0, 1.0), 1),
    "3-D the same, 2 channels": ((12, 18, 20), (2.0, 1.0, 1.0), 2),
    "2-D 64 x 64, 1 mm": ((1, 64, 64), (5.0, 1.0, 1.0), 1),
}


def doubtful(shape: tuple[int, int, int], spacing_mm: Sequence[float], channels: int) -> tuple[Tensor, Tensor]:
    """Return logits and a normalised image of a head phantom's middle."""
    big = tuple(max(n, 64) if n > 1 else 1 for n in shape)
    phantom = head_mr(0, shape=big, spacing_mm=spacing_mm)
    middle = tuple(slice((b - n) // 2, (b - n) // 2 + n) for b, n in zip(big, shape, strict=True))
    draw = np.random.default_rng(0)
    truth = np.minimum(phantom.segmentation.array[middle], CLASSES - 1)
    widths = [2.0 / step for step in spacing_mm]
    blurred = np.stack([gaussian_filter((truth == k).astype(np.float32), widths) for k in range(CLASSES)])
    logits = np.log(blurred + 0.01) + draw.normal(size=blurred.shape)
    grey = phantom.volume.array[0][middle].astype(np.float32)
    image = np.stack([(grey - grey.mean()) / grey.std()] * channels)
    image[1:] = 0.2 * draw.normal(size=image[1:].shape) - np.abs(image[:1])
    return torch.from_numpy(logits.astype(np.float32)), torch.from_numpy(image)


def all_pairs(logits: Tensor, image: Tensor, plan: CrfPlan, spacing_mm: Sequence[float]) -> NDArray[Any]:
    """Return probabilities by the sum over all pairs, float64."""
    index = np.indices(logits.shape[1:]).reshape(3, -1).T * np.array(spacing_mm)
    features = torch.from_numpy(index)
    grey = image.double().flatten(1).T
    near = (torch.cdist(features, features) / plan.smoothness_sigma_mm) ** 2
    far = (torch.cdist(features, features) / plan.appearance_sigma_mm) ** 2
    unlike = (torch.cdist(grey, grey) / plan.appearance_sigma_intensity) ** 2
    edges = torch.zeros_like(near)
    for weight, squared in ((plan.smoothness_weight, near), (plan.appearance_weight, far + unlike)):
        kernel = torch.exp(-squared / 2)
        scale = kernel.sum(dim=1).rsqrt()
        edges += weight * scale[:, None] * kernel * scale
    edges.fill_diagonal_(0)
    unary = logits.double().flatten(1).log_softmax(dim=0)
    scores = unary
    for _ in range(plan.iterations):
        scores = unary + scores.softmax(dim=0) @ edges
    return scores.softmax(dim=0).reshape(logits.shape).numpy()


def measure(name: str) -> None:
    """Print what one size takes, in this process."""
    shape, spacing_mm, channels = SIZES[name]
    logits, image = doubtful(shape, spacing_mm, channels)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, processor = time.perf_counter(), time.process_time()
    mean_field(logits, image, CrfPlan(), spacing_mm=spacing_mm)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    rise = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6
    print(f"{name:42} {wall:6.1f} s wall {processor:6.1f} s processor {rise:6.0f} MB more", flush=True)


def main() -> None:
    """Measure each size in a process of its own, then the errors."""
    print(f"{CLASSES} classes, {CrfPlan().iterations} iterations, {torch.get_num_threads()} threads", flush=True)
    for name in SIZES:
        subprocess.run([sys.executable, __file__, name], check=True)
    print("Error of probabilities against the sum over all pairs, and what the CRF changes")
    for name, (shape, spacing_mm, channels) in TINY.items():
        logits, image = doubtful(shape, spacing_mm, channels)
        exact = all_pairs(logits, image, CrfPlan(), spacing_mm)
        error = np.abs(mean_field(logits, image, CrfPlan(), spacing_mm=spacing_mm).exp().numpy() - exact)
        change = np.abs(logits.softmax(dim=0).numpy() - exact)
        print(f"{name:42} mean {error.mean():.4f} largest {error.max():.3f}; change, mean {change.mean():.3f}")


if __name__ == "__main__":
    measure(sys.argv[1]) if len(sys.argv) > 1 else main()

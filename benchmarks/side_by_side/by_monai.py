"""MONAI in a process of its own: `sliding_window_inference`, then scores of all classes resized, then argmax.

Usage: python -m side_by_side.by_monai JOB.json ANSWER.json

The scan is brought to the network's grid by MONAI's linear `Resize`, the fastest it has, and normalised. The network is
of PyTorch's own layers, in their usual memory format; on a GPU it runs under autocast with bfloat16.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import torch
from monai.inferers import sliding_window_inference
from monai.transforms import Resize
from torch import nn

from medseg.model import load_model
from medseg.networks import InstanceNorm
from side_by_side.cases import SIZES, WINDOW_HU, Size
from side_by_side.measured import Clocked, StandIn, answered, spent

if TYPE_CHECKING:
    from numpy.typing import NDArray

OVERLAP = 0.5


def stock(network: nn.Module) -> nn.Module:
    """Let a network have PyTorch's own instance norm."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, InstanceNorm):
                norm = nn.InstanceNorm3d(child.weight.numel(), eps=child.eps, affine=True)
                norm.weight, norm.bias = child.weight, child.bias
                setattr(module, name, norm)
    return network.eval()


def segmented(scan_zyx: NDArray[Any], network: nn.Module, size: Size, device: str) -> NDArray[Any]:
    """Return the mask of a scan, as MONAI's own examples have it."""
    image = Resize(size.working, mode="trilinear")(torch.from_numpy(scan_zyx[None].astype(np.float32)))
    image = (image.as_tensor().clamp(WINDOW_HU.low, WINDOW_HU.high) - WINDOW_HU.mean) / WINDOW_HU.std
    cast = torch.autocast("cuda", torch.bfloat16) if device != "cpu" else nullcontext()
    with torch.inference_mode(), cast:
        logits = sliding_window_inference(
            image[None].to(device), [size.patch] * 3, 1, network, overlap=OVERLAP, mode="gaussian", device=device
        )
    full = Resize(scan_zyx.shape, mode="trilinear")(logits[0].float())
    return full.argmax(dim=0).to("cpu", torch.uint8).numpy()


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Return what segmenting a scan took, in memory or from file to file."""
    size, folder, device = SIZES[job["size"]], Path(job["folder"]), job["device"]
    inner = stock(load_model(Path(job["model"])).network(0)) if job["model"] else StandIn(job["classes"])
    clocked = Clocked(inner.to(device), device)
    if job.get("files"):
        image = nib.load(folder / f"{job['scan']}.nii.gz")
        scan = np.ascontiguousarray(np.asanyarray(image.dataobj).T)
        mask = segmented(scan, clocked, size, device)
        nib.save(nib.Nifti1Image(mask.T, image.affine), job["mask"])
        return {"runs": []}
    scan = np.load(folder / f"{job['scan']}.npy")
    runs = []
    for _ in range(job["times"]):
        mask, told = spent(lambda: segmented(scan, clocked, size, device), clocked, device)
        runs.append(told)
    np.save(job["mask"], mask)
    return {"runs": runs}


if __name__ == "__main__":
    answered(work)

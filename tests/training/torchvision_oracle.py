"""Run as a child process: torchvision's networks, their random weights, and what they say of an image.

    python torchvision_oracle.py FOLDER OUT NAME...

FOLDER holds torchvision, apart from every other package: beside it, some would change what they do. OUT gets
NAME.pth, a state dict, and NAME.safetensors: images and outputs.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterable

EVEN, ODD = (64, 96), (57, 71)
CLASSES = 4
ENCODERS = ("resnet", "vgg")


def main(folder: str, out: str, names: Iterable[str]) -> None:
    sys.path.insert(0, folder)
    # torchvision's compiled operators want another build of torch; its models do without, but for this module's import.
    sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
    from torchvision import models

    for number, name in enumerate(names):
        torch.manual_seed(number)
        with torch.device("meta"):
            network = _made(models, name)
        network = _filled(network.to_empty(device="cpu")).eval()
        said: dict[str, torch.Tensor] = {}
        for size in (EVEN, ODD):
            image = torch.randn(1, 3, *size)
            with torch.no_grad():
                maps = _maps(network, image, ceil=size == ODD) if name.startswith(ENCODERS) else [network(image)["out"]]
            said[f"image_{size[0]}"] = image
            said |= {f"map_{size[0]}_{i}": m.clone() for i, m in enumerate(maps)}
        save_file(said, Path(out) / f"{name}.safetensors")
        torch.save(network.state_dict(), Path(out) / f"{name}.pth")


def _made(models: Any, name: str) -> nn.Module:
    if name.startswith("vgg"):  # without its classifier, which alone would be half a gigabyte
        rows = models.vgg.cfgs[{"16": "D", "19": "E"}[name[3:5]]]
        return nn.ModuleDict({"features": models.vgg.make_layers(rows, batch_norm=name.endswith("bn"))})
    kind, _, aux = name.partition("-")
    more = (
        {} if name.startswith(ENCODERS) else {"weights_backbone": None, "num_classes": CLASSES, "aux_loss": bool(aux)}
    )
    made: nn.Module = models.get_model(kind, weights=None, **more)
    return made


def _filled(network: nn.Module) -> nn.Module:
    """Give every layer weights of its own, every norm statistics, scale and shift."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.uniform_(module.bias, -0.1, 0.1)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.4, 0.8)
            nn.init.uniform_(module.bias, -0.1, 0.1)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
            module.num_batches_tracked.zero_()
    return network


def _maps(network: Any, image: torch.Tensor, *, ceil: bool) -> list[torch.Tensor]:
    if not isinstance(network, nn.ModuleDict):
        maps = [network.relu(network.bn1(network.conv1(image)))]
        x = network.maxpool(maps[0])
        for row in (network.layer1, network.layer2, network.layer3, network.layer4):
            x = row(x)
            maps.append(x)
        return maps
    maps, x = [], image
    for layer in network["features"]:
        if isinstance(layer, nn.MaxPool2d):  # ours keep an odd side's last voxels; torchvision's can be told to
            layer.ceil_mode = ceil
        x = layer(x)
        if isinstance(layer, nn.MaxPool2d):
            maps.append(x)
    return maps


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])

"""Networks have as many weights as those of the papers, or of the implementations everybody measures by."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from medseg.networks import blueprint
from medseg.plan import ClassicUNetSpec, DeepLabSpec, FCNSpec, MedNeXtSpec, NetworkSpec, PSPNetSpec, SwinUNETRSpec
from tests.networks.specs import resnet, unet, vgg

PAGE = Path(__file__).resolve().parents[2] / "docs" / "networks.md"
BEGIN, END = "<!-- counts: begin -->", "<!-- counts: end -->"
UPDATE = "MEDSEG_UPDATE_DOCS"


class Published(NamedTuple):
    """A network as published: its channels and classes, its number of weights, and who says so."""

    spec: NetworkSpec
    channels: int
    classes: int
    said: int | str
    source: str


LARGE_FIELD = {"encoder": vgg(2, 8), "rates": (12,), "head_features": 1024}
PUBLISHED = {
    "FCN-8s, VGG-16": Published(
        FCNSpec(dimensions=2, encoder=vgg()), 3, 21, 134_489_759, "Long 2015: 134 M"
    ),
    "FCN, ResNet-50": Published(FCNSpec(dimensions=2, encoder=resnet()), 3, 21, 32_957_013, "torchvision"),
    "FCN, ResNet-50, auxiliary head": Published(
        FCNSpec(dimensions=2, encoder=resnet(), auxiliary_weight=0.5), 3, 21, 35_322_218, "torchvision"
    ),
    "FCN, ResNet-101": Published(FCNSpec(dimensions=2, encoder=resnet(layers=101)), 3, 21, 51_949_141, "torchvision"),
    "FCN, ResNet-101, auxiliary head": Published(
        FCNSpec(dimensions=2, encoder=resnet(layers=101), auxiliary_weight=0.5), 3, 21, 54_314_346, "torchvision"
    ),
    "DeepLab v1 (large field of view), VGG-16": Published(
        DeepLabSpec(dimensions=2, version="v1", **LARGE_FIELD), 3, 21, "20.5", "Chen 2015: 20.5 M"
    ),
    "DeepLab v3, ResNet-50": Published(DeepLabSpec(dimensions=2, encoder=resnet()), 3, 21, 39_638_869, "torchvision"),
    "DeepLab v3, ResNet-50, auxiliary head": Published(
        DeepLabSpec(dimensions=2, encoder=resnet(), auxiliary_weight=0.5), 3, 21, 42_004_074, "torchvision"
    ),
    "DeepLab v3, ResNet-101": Published(
        DeepLabSpec(dimensions=2, encoder=resnet(layers=101)), 3, 21, 58_630_997, "torchvision"
    ),
    "DeepLab v3, ResNet-101, auxiliary head": Published(
        DeepLabSpec(dimensions=2, encoder=resnet(layers=101), auxiliary_weight=0.5), 3, 21, 60_996_202, "torchvision"
    ),
    "U-Net 2015": Published(
        ClassicUNetSpec(dimensions=2, features=(64, 128, 256, 512, 1024), strides=((2, 2),) * 4, padding="valid"),
        1, 2, 31_030_658, "counted from Ronneberger 2015, figure 1",
    ),
    "3-D U-Net 2016": Published(
        ClassicUNetSpec(
            dimensions=3, features=(64, 128, 256, 512), strides=((2, 2, 2),) * 3, norm="batch", widens_early=True
        ),
        3, 3, 19_069_955 + 2336, "Cicek 2016, section 2, and 2336 scales of its batch norms",
    ),
    "nnU-Net, its largest 3-D plan": Published(
        unet(3, (32, 64, 128, 256, 320, 320)), 1, 2, "31.2", "nnU-Net 2.8: 31.2 M"
    ),
    "Swin UNETR, 48 features": Published(
        SwinUNETRSpec(dimensions=3, features=48), 1, 14, "62.2", "Hatamizadeh 2022: 62 M"
    ),
    **{
        f"MedNeXt-{size}": Published(MedNeXtSpec(dimensions=3, size=size), 1, 2, said, f"MONAI; Roy 2023: {paper}")
        for size, said, paper in (
            *(("S", "5.6", "5.6 M"), ("B", "10.5", "10.5 M")),
            *(("M", "17.5", "17.6 M"), ("L", "61.7", "61.8 M")),
        )
    },
    "PSPNet, ResNet-50": Published(
        PSPNetSpec(dimensions=2, encoder=resnet(stem="deep")), 3, 21, 49_081_578, "no count published; ours"
    ),
    "DeepLab v2, ResNet-101": Published(
        DeepLabSpec(dimensions=2, version="v2", encoder=resnet(layers=101), rates=(6, 12, 18, 24)),
        3, 21, 44_048_532, "no count published; ours",
    ),
    "DeepLab v3+, ResNet-50": Published(
        DeepLabSpec(dimensions=2, version="v3+", encoder=resnet(2, 16), rates=(6, 12, 18)),
        3, 21, 40_352_181, "no count published; ours",
    ),
    "U-Net with nnU-Net's residual encoder": Published(
        unet(3, (32, 64, 128, 256, 320, 320), residual_blocks=(1, 3, 4, 6, 6, 6), convs_per_stage=1),
        1, 2, 102_335_170, "no count published; ours",
    ),
}  # fmt: skip


def weights(published: Published) -> int:
    network = blueprint(published.spec, published.channels, published.classes)
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_as_many_weights_as_published(name: str) -> None:
    published = PUBLISHED[name]
    count = weights(published)
    if isinstance(published.said, int):
        assert count == published.said
    else:
        assert f"{count / 1e6:.1f}" == published.said


def test_the_table_in_the_docs() -> None:
    rows = [f"| {name} | {p.channels} | {p.classes} | {weights(p):,} | {p.source} |" for name, p in PUBLISHED.items()]
    table = "\n".join(["| network | channels | classes | weights | published |", "|---|---|---|---|---|", *rows])
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    old, _, tail = rest.partition(END)
    if os.environ.get(UPDATE):
        PAGE.write_text(f"{head}{BEGIN}\n{table}\n{END}{tail}", encoding="utf-8")
    else:
        assert old.strip() == table, f"set {UPDATE}=1 to write the table anew"

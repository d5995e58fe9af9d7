"""Weights of torchvision's networks, taken as `--init` takes them, say what they say in torchvision itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from medseg.networks import build
from medseg.plan import DeepLabSpec, FCNSpec, ResNetSpec, VGGSpec, published_strides
from medseg.training.initial import Initial, initial_weights, read_source
from tests.training.stand_ins import plan_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medseg.plan import NetworkSpec

CLASSES = 4
SIZES = (64, 57)  # first sides: one every stride divides, one none does
PROGRAM = Path(__file__).with_name("torchvision_oracle.py")
ORACLES = Path(os.environ.get("MEDSEG_ORACLES", Path(sys.prefix) / "oracles"))
WHOLE = ("fcn_resnet50", "fcn_resnet50-aux", "deeplabv3_resnet50", "deeplabv3_resnet50-aux")
RESNETS = ("resnet18", "resnet50", "resnet101")
VGGS = ("vgg16", "vgg16_bn", "vgg19")

pytestmark = pytest.mark.slow  # networks at their published width
if not (ORACLES / "torchvision").is_dir():
    pytest.skip(f"no torchvision in {ORACLES}: make dev puts it there", allow_module_level=True)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("torchvision")
    subprocess.run([sys.executable, PROGRAM, ORACLES, folder, *WHOLE, *RESNETS, *VGGS], check=True)
    yield folder
    for path in folder.iterdir():  # more than a gigabyte
        path.unlink()


def started(theirs: Path, name: str, spec: NetworkSpec) -> tuple[Initial, Any]:
    plan = plan_of(spec, channels=("R", "G", "B"), labels=("a", "b", "c"))
    initial = initial_weights(plan, read_source(theirs / f"{name}.pth"))
    network = build(spec, 3, CLASSES).eval()
    network.load_state_dict(dict(initial.weights))
    return initial, network


def compare(theirs: Path, name: str, say: Any) -> None:
    said = load_file(theirs / f"{name}.safetensors")
    for size in SIZES:
        with torch.no_grad():
            maps = say(said[f"image_{size}"])
        for i, ours in enumerate(maps):
            expected = said[f"map_{size}_{i}"]
            assert expected.std() > 0.01
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_networks(theirs: Path, name: str) -> None:
    resnet = ResNetSpec(layers=50, strides=published_strides(2, 8), dilations=(1, 1, 2, 4))
    weight = 0.5 if name.endswith("aux") else 0.0
    spec: NetworkSpec = FCNSpec(dimensions=2, encoder=resnet, auxiliary_weight=weight)
    if name.startswith("deeplab"):
        spec = DeepLabSpec(dimensions=2, encoder=resnet, auxiliary_weight=weight)
    initial, network = started(theirs, name, spec)
    assert not initial.report.fresh
    assert not initial.report.unused
    assert not initial.report.adapted
    compare(theirs, name, lambda image: [network(image)])


@pytest.mark.parametrize("name", RESNETS)
def test_resnet_encoders(theirs: Path, name: str) -> None:
    resnet = ResNetSpec.model_validate({"layers": int(name[6:]), "strides": published_strides(2)})
    initial, network = started(theirs, name, FCNSpec(dimensions=2, encoder=resnet))
    assert set(initial.report.unused) == {"fc.weight", "fc.bias"}
    assert not any(fresh.startswith("encoder.") for fresh in initial.report.fresh)
    compare(theirs, name, network.encoder)


@pytest.mark.parametrize("name", VGGS)
def test_vgg_encoders(theirs: Path, name: str) -> None:
    norm = "batch" if name.endswith("bn") else "none"
    vgg = VGGSpec.model_validate({"layers": int(name[3:5]), "norm": norm, "strides": published_strides(2)})
    spec = FCNSpec(dimensions=2, encoder=vgg, classifier_features=8, classifier_kernel=1)
    initial, network = started(theirs, name, spec)
    assert not initial.report.unused
    assert not any(fresh.startswith("encoder.") for fresh in initial.report.fresh)
    compare(theirs, name, network.encoder)

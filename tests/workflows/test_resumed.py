"""Settings of a run that has begun: its own are accepted again, and what is settled stays so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from medseg.errors import PlanError
from medseg.labels import LabelSet
from medseg.plan import CaseFingerprint, ChannelFingerprint, Fingerprint, Plan, read_recipe
from medseg.plan.recipe import recipe_folder
from medseg.planning import Resources, resolve
from medseg.workflows.plan import PlanRequest
from medseg.workflows.resumed import resumed
from medseg.workflows.train import TrainRequest, train
from tests.training.stand_ins import small_plan
from tests.workflows.ellipsoids import ellipsoids

if TYPE_CHECKING:
    from pathlib import Path

LABELS = LabelSet.from_names({3: "cell", 7: "nucleus"})
CPU = Resources("cpu", 8_000_000_000, cores=2)
OTHERS = (
    "train.gpu_memory_gb=8",
    "train.epochs=auto",
    "train.loss.kind=focal",
    "train.loss.gamma=3",
    "train.optimizer=auto",
    "preprocess.normalisation=[clip_zscore]",
    "infer.mirror_axes=auto",
    "infer.largest_component=[nucleus]",
    "infer.minimum_ml={cell: 0.5}",
    "infer.fill_holes=all",
    "infer.instances={method: watershed, labels: [nucleus]}",
)
WIDTH = ("network.width=8",)
UNET = (
    *WIDTH,
    "network.depth=3",
    "network.max_width=24",
    "network.convs_per_stage=1",
    "network.deep_supervision=false",
)
ENCODER = (*WIDTH, "network.norm=batch", "network.output_stride=8")
NETWORK = {
    "unet3d": UNET,
    "unet2d": UNET,
    "resunet3d": UNET,
    "fcn32s": (*ENCODER, "network.encoder=vgg19", "network.classifier_features=16"),
    "fcn16s": (*ENCODER, "network.variant=32s"),
    "fcn8s": (*ENCODER, "network.encoder=resnet50", "network.auxiliary_weight=0.4"),
    "deeplabv1": (*ENCODER, "network.rates=[5]"),
    "deeplabv2": (*ENCODER, "network.encoder=resnet18", "network.dropout=auto"),
    "deeplabv3": (*ENCODER, "network.multi_grid=true", "network.head_features=16"),
    "deeplabv3plus": (*ENCODER, "network.encoder=resnet101", "network.dropout=0.1"),
    "pspnet": (*ENCODER, "network.encoder=resnet34", "network.bins=[1, 2]"),
    "camvid": ("channels=[R]", *UNET),
    "em_membrane": UNET,
    "fcn_resnet50": ENCODER,
    "mednext": (*WIDTH, "network.kernel=5"),
    "nuclei": ("channels=[R]", *UNET),
    "resunet3d_l": UNET,
    "resunet3d_m": UNET,
    "resunet3d_xl": UNET,
    "segresnet": (*WIDTH, "network.dropout=0.2"),
    "swin_unetr": ("network.width=12", "network.dropout=0.2"),
    "unet2d_2015": (*WIDTH, "network.depth=2", "network.padding=same"),
    "unet3d_2016": (*WIDTH, "network.norm=group"),
    "voc": ("channels=[R]", "network={kind: pspnet, dimensions: 2, encoder: resnet18}"),
}


def fingerprint() -> Fingerprint:
    channel = ChannelFingerprint(
        name="CT", mean=40, std=80, percentile_00_5=-200, percentile_99_5=300, minimum=-1000, maximum=1000
    )
    return Fingerprint(
        dataset="CT",
        content_sha256="0" * 64,
        channels=(channel,),
        cases=(CaseFingerprint(id="c0", shape=(64, 72, 80), spacing_mm=(1, 1, 1), label_voxels={3: 9}),) * 20,
        labels=LABELS,
    )


def planned(name: str, *settings: str) -> Plan:
    """Return the plan a run begins with; settings of a loss or optimiser that is ``auto`` are not among these."""
    return resolve(read_recipe(name).with_settings(settings), fingerprint(), resources=CPU)


def test_every_recipe_is_among_those_tested() -> None:
    assert {path.stem for path in recipe_folder().rglob("*.yaml")} == set(NETWORK)


@pytest.mark.parametrize("name", NETWORK)
def test_a_runs_own_settings_are_accepted_when_it_is_resumed(name: str) -> None:
    settings = (*NETWORK[name], *OTHERS)
    plan = planned(name, *settings)
    assert resumed(plan, settings) == plan
    assert resumed(plan, ()) == plan


def test_settings_in_the_plans_own_words_are_accepted() -> None:
    plan = planned("deeplabv3", *ENCODER, *OTHERS)
    document = plan.model_dump(mode="json")
    own = (
        f"network.encoder.width={document['network']['encoder']['width']}",
        f"network.rates={document['network']['rates']}",
        f"network.kind={document['network']['kind']}",
        "infer.largest_component=[7]",
        "infer.instances.labels=[7]",
        f"preprocess.normalisation={document['preprocess']['normalisation']}",
    )
    assert resumed(plan, own) == plan


@pytest.mark.parametrize(
    ("name", "began", "setting", "message"),
    [
        (
            "fcn8s",
            ENCODER,
            "network.norm=group",
            "network.norm=group' changes the network.*expected network.norm=batch",
        ),
        ("fcn8s", ENCODER, "network.encoder=resnet50", "expected network.encoder=vgg16"),
        ("fcn8s", ENCODER, "network.width=16", "expected network.width=8"),
        ("fcn8s", ENCODER, "network.dimensions=2", "expected network.dimensions=3"),
        ("fcn8s", ENCODER, "network.kind=pspnet", "expected network.kind=fcn"),
        ("deeplabv3", ENCODER, "network.multi_grid=true", "expected network.multi_grid=false"),
        (
            "deeplabv3",
            ENCODER,
            "network.rates=[1, 2]",
            "changes the network of a run that has begun; expected DeepLab v3",
        ),
        ("deeplabv3", ENCODER, "network={kind: deeplab, encoder: resnet18}", "expected network.encoder=resnet50"),
        ("unet3d", WIDTH, "network.residual=true", "expected network.residual=false"),
        ("unet3d", WIDTH, "network.width=16", "expected network.width=8"),
        ("unet3d", WIDTH, "network.convs_per_stage=3", "expected U-Net, 3-D"),
        ("swin_unetr", (), "network.width=36", "expected network.width=24"),
        ("unet3d", WIDTH, "network.encoder=resnet50", "there is no 'encoder'"),
        ("unet3d", WIDTH, "network.width=wide", "network.unet.width"),
        ("unet3d", WIDTH, "network.norm", "has no value"),
        ("unet3d", WIDTH, "train.epoch=3", "there is no 'epoch'"),
        ("unet3d", WIDTH, "train.seed=auto", "train.seed"),
        ("unet3d", WIDTH, "train.loss.gamma=3", "there is no 'gamma'"),
        ("unet3d", WIDTH, "train.epochs", "has no value"),
        (
            "unet3d",
            WIDTH,
            "infer.largest_component=[liver]",
            "no label is called 'liver'; expected one of cell, nucleus",
        ),
        ("unet3d", WIDTH, "channels=[MR]", r'channels of a run that has begun; expected channels=\["CT"\]'),
        ("unet3d", WIDTH, "ignore_label=255", "ignored label of a run that has begun; expected ignore_label=null"),
    ],
)
def test_what_a_run_cannot_change_is_refused_in_a_sentence(
    name: str, began: tuple[str, ...], setting: str, message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        resumed(planned(name, *began), [setting])


def test_what_is_open_may_change() -> None:
    plan = planned("unet3d", *WIDTH)
    changed = resumed(
        plan,
        [
            "train={epochs: 3, optimizer: auto}",
            "train.loss.kind=tversky",
            "train.loss.alpha=0.2",
            "infer={largest_component: all, minimum_ml: {nucleus: 0.5}, fill_holes: [cell]}",
            "infer.instances={method: watershed}",
            "infer.instances.labels=[nucleus]",
        ],
    )
    assert (changed.train.epochs, changed.train.optimizer) == (3, plan.train.optimizer)
    assert (changed.train.loss.kind, changed.train.loss.alpha) == ("tversky", 0.2)
    assert changed.infer.largest_component == (3, 7)
    assert (changed.infer.minimum_ml, changed.infer.fill_holes) == ({7: 0.5}, (3,))
    assert changed.infer.instances is not None
    assert (changed.infer.instances.method, changed.infer.instances.labels) == ("watershed", (7,))
    assert resumed(changed, ["infer.instances.labels=all"]).infer.instances.labels == ()
    assert changed.network == plan.network


@pytest.mark.parametrize(
    ("labels", "ignore", "message"),
    [
        ({1: "blob"}, 9, "the plan ignores the id 9; expected no id, as the data set does.*begin another run"),
        ({1: "blob", 2: "other"}, None, "the plan's labels are blob, other; expected those of the data set: blob"),
    ],
)
def test_a_run_goes_on_only_with_the_labels_it_began_with(
    labels: dict[int, str], ignore: int | None, message: str, tmp_path: Path
) -> None:
    dataset, run = ellipsoids(tmp_path, 2), tmp_path / "run"
    (run / "fold_0" / "last").mkdir(parents=True)
    document = small_plan().model_dump(mode="json") | {"labels": LabelSet.from_names(labels).to_json()}
    (run / "plan.yaml").write_text(Plan.from_document(document | {"ignore_label": ignore}).to_yaml())
    for settings in ((), ("ignore_label=null",)):
        request = TrainRequest(plan=PlanRequest(settings=settings, device="cpu"), resume=True)
        with pytest.raises(PlanError, match=message) as caught:
            train(dataset, run, request)
        assert str(run / "plan.yaml") in str(caught.value)

"""Plans and recipes: frozen, complete, and refusing what they do not know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest
from pydantic import ValidationError

from medseg.documents import parse_yaml
from medseg.errors import PlanError
from medseg.labels import LabelSet
from medseg.plan import (
    CrfPlan,
    InstancePlan,
    Interpolation,
    Plan,
    Recipe,
    UNetSpec,
    is_plan,
    read_recipe,
    recipe_folder,
)

if TYPE_CHECKING:
    from pathlib import Path


def document() -> dict[str, Any]:
    """Return the smallest plan there is."""
    return {
        "channels": ["CT"],
        "labels": [{"id": 1, "name": "liver"}, {"id": 2, "name": "spleen"}],
        "preprocess": {
            "spacing_mm": [2.0, 1.0, 1.0],
            "normalisation": [{"kind": "clip_zscore", "low": -100, "high": 300, "mean": 50, "std": 40}],
        },
        "network": {
            "kind": "unet",
            "dimensions": 3,
            "features": [16, 32, 64],
            "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
            "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        },
        "train": {"patch_size": [16, 32, 32], "batch_size": 2},
    }


def with_field(dotted: str, value: object) -> dict[str, Any]:
    """Return the plan with one field replaced."""
    whole = document()
    place: Any = whole
    *path, last = dotted.split(".")
    for key in path:
        place = place.setdefault(key, {})
    place[last] = value
    return whole


def test_a_plan_comes_back_from_its_text(tmp_path: Path):
    plan = Plan.from_document(document())
    (tmp_path / "plan.yaml").write_text(plan.to_yaml(), encoding="utf-8")
    again = Plan.read(tmp_path / "plan.yaml")
    assert again == plan
    assert again.to_yaml() == plan.to_yaml()
    assert "auto" not in plan.to_yaml()
    assert "schema: 1" in plan.to_yaml()
    assert is_plan(document())
    assert not is_plan({"channels": ["CT"]})


def test_a_plan_is_frozen():
    plan = Plan.from_document(document())
    with pytest.raises(ValidationError):
        plan.train = None
    with pytest.raises(ValidationError):
        plan.train.epochs = 3


@pytest.mark.parametrize(
    ("dotted", "value", "reason"),
    [
        ("surprise", 1, "surprise"),
        ("train.surprise", 1, "train.surprise"),
        ("schema", 2, "schema"),
        ("channels", [], "channels"),
        ("channels", ["CT", "PET"], "2 normalisations"),
        ("labels", [], "at least one structure"),
        ("labels", "liver", "list of entries"),
        ("labels", [{"id": 1}], "no id or no name"),
        ("labels", [{"id": 1, "name": "x", "code": 7}], "code of label 'x'"),
        ("labels", [{"id": 1, "name": "x", "color": ["a", 1, 1]}], "colour"),
        ("labels", [3], "not understood"),
        ("preprocess.orientation", "SPP", "three letters"),
        ("preprocess.orientation", "SPX", "three letters"),
        ("preprocess.orientation", "SPL\n", "three letters"),
        ("preprocess.orientation", "spl", "three letters"),
        ("preprocess.orientation", "SP", "three letters"),
        ("preprocess.orientation", 7, "orientation"),
        ("preprocess.spacing_mm", [1.0, 1.0], "spacing_mm"),
        ("preprocess.spacing_mm", [0.0, 1.0, 1.0], "spacing_mm"),
        ("preprocess.spacing_mm", [float("nan"), 1.0, 1.0], "spacing_mm"),
        ("preprocess.spacing_mm", [float("inf"), 1.0, 1.0], "spacing_mm"),
        ("preprocess.spacing_mm", "auto", "spacing_mm"),
        ("preprocess.normalisation", [{"kind": "other"}], "normalisation"),
        ("preprocess.normalisation", [{"kind": "clip_zscore", "low": 0, "high": 1, "mean": 0, "std": 0}], "std"),
        ("preprocess.normalisation", [{"kind": "clip_zscore", "low": 2, "high": 1, "mean": 0, "std": 1}], "above high"),
        (
            "preprocess.normalisation",
            [{"kind": "clip_zscore", "low": float("nan"), "high": 1, "mean": 0, "std": 1}],
            "low",
        ),
        ("network.kind", "resnet", "network"),
        ("network.dimensions", 4, "dimensions"),
        ("network.features", [16], "features"),
        ("network.features", [16, 32], "2 stages"),
        ("network.strides", [[1, 1, 1], [2, 2, 2]], "3 stages"),
        ("network.strides", [[2, 2, 2], [2, 2, 2], [2, 2, 2]], "first stage"),
        ("network.strides", [[1, 1, 1], [0, 2, 2], [2, 2, 2]], "strides"),
        ("network.strides", [[1, 1], [2, 2], [2, 2]], "3 numbers"),
        ("network.kernels", [[3, 3, 3], [2, 3, 3], [3, 3, 3]], "odd"),
        ("train.patch_size", [15, 32, 32], "divisible"),
        ("train.patch_size", [16, 32], "patch_size"),
        ("train.patch_size", [0, 32, 32], "patch_size"),
        ("train.batch_size", 0, "batch_size"),
        ("train.epochs", "auto", "epochs"),
        ("train.foreground_fraction", 1.5, "foreground_fraction"),
        ("train.optimizer", {"kind": "adam"}, "optimizer"),
        ("train.optimizer", {"kind": "sgd", "learning_rate": -1}, "learning_rate"),
        ("train.ema_decay", 1.0, "ema_decay"),
        ("train.augment", {"scaling": [1.4, 0.7]}, "from small to large"),
        ("train.augment", {"rotation_deg": [float("nan"), 0, 0]}, "rotation_deg"),
        ("train.augment", {"mirror_axes": ["W"]}, "mirror_axes"),
        ("infer.overlap", 1.0, "overlap"),
        ("infer.largest_component", [3], "label 3"),
        ("infer.fill_holes", [3], "fill_holes names label 3"),
        ("infer.minimum_ml", {3: 1.0}, "minimum_ml names label 3"),
        ("infer.minimum_ml", {1: 0.0}, "greater than 0"),
        ("infer.instances", {"labels": [3]}, "instances names label 3"),
        ("infer.instances", {"method": "guess"}, "'components' or 'watershed'"),
        ("infer.instances", {"neck": 1.0}, "less than 1"),
        ("infer.instances", {"minimum_ml": 1.0}, "not permitted"),
        ("infer.mirror_axes", ["x"], "mirror_axes"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused_in_one_sentence(dotted: str, value: object, reason: str):
    with pytest.raises(PlanError, match=reason) as caught:
        Plan.from_document(with_field(dotted, value), where="plan.yaml")
    assert str(caught.value).startswith("plan.yaml: ")


@pytest.mark.parametrize("value", [None, 3, "text", [], {}, [{}]])
def test_what_is_no_plan_is_refused(value: object):
    with pytest.raises(PlanError):
        Plan.from_document(value)


@pytest.mark.parametrize("field", ["channels", "labels", "preprocess", "network", "train"])
def test_a_plan_has_every_part(field: str):
    whole = document()
    del whole[field]
    with pytest.raises(PlanError, match=field):
        Plan.from_document(whole)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flat_network_sees_slices(axis: int):
    whole = document()
    whole["network"] |= {"dimensions": 2, "strides": [[1, 1], [2, 2], [2, 2]], "kernels": [[3, 3]] * 3}
    patch = [32, 32, 32]
    patch[axis] = 1
    whole["train"]["patch_size"] = patch
    plan = Plan.from_document(whole)
    assert (plan.slice_axis, plan.spatial_patch) == (axis, (32, 32))
    for wrong in ([32, 32, 32], [1, 1, 32], [1, 32, 30]):
        whole["train"]["patch_size"] = wrong
        with pytest.raises(PlanError, match=r"2-D network|divisible"):
            Plan.from_document(whole)


def test_a_deep_network_sees_volumes():
    plan = Plan.from_document(document())
    assert (plan.slice_axis, plan.spatial_patch, plan.network.divisor) == (None, (16, 32, 32), (2, 4, 4))


def test_labels_survive_with_codes_and_colours():
    entries = [
        {
            "id": 3,
            "name": "liver",
            "color": [1, 2, 3],
            "code": {"scheme": "SCT", "value": "10200004", "meaning": "Liver"},
        }
    ]
    plan = Plan.from_document(with_field("labels", entries))
    assert plan.labels == LabelSet.from_json(entries)
    assert Plan.from_document(plan.model_dump(mode="json")) == plan


@pytest.mark.parametrize(
    ("settings", "path", "value"),
    [
        (["train.epochs=50"], ("train", "epochs"), 50),
        (["train.epochs=50", "train.epochs = 60"], ("train", "epochs"), 60),
        (["infer.largest_component=[1, 2]"], ("infer", "largest_component"), (1, 2)),
        (["infer.minimum_ml={2: 0.5}"], ("infer", "minimum_ml"), {2: 0.5}),
        (["infer.instances={method: watershed}"], ("infer", "instances"), InstancePlan(method="watershed")),
        (["preprocess.orientation=stored"], ("preprocess", "orientation"), "stored"),
        (["infer.crf={}"], ("infer", "crf"), CrfPlan()),
        (["infer.crf={iterations: 3}", "infer.crf.iterations=4"], ("infer", "crf", "iterations"), 4),
        (["infer.crf={}", "infer.crf.appearance_sigma_mm=8"], ("infer", "crf", "appearance_sigma_mm"), 8.0),
        (["infer.crf.iterations=7", "infer.crf.smoothness_weight=0"], ("infer", "crf", "smoothness_weight"), 0.0),
        (["infer.crf.iterations=7", "infer.crf=null"], ("infer", "crf"), None),
    ],
)
def test_settings_change_a_copy(settings: list[str], path: tuple, value: object):
    plan = Plan.from_document(document())
    before = plan.to_yaml()
    changed: Any = plan.with_settings(settings)
    for name in path:
        changed = getattr(changed, name)
    assert changed == value
    assert plan.to_yaml() == before


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("train.epochs", "has no value"),
        ("train.epoch=5", "one of .*epochs"),
        ("=5", "names no field"),
        ("train.epochs.more=5", "too deep"),
        ("infer.largest_component.more=5", "too deep"),
        ("infer.crf.iteration=5", "infer.crf.iteration"),
        ("infer.crf.iterations=0", "infer.crf.iterations"),
        ("infer.crf.appearance_weight=-1", "infer.crf.appearance_weight"),
        ("infer.crf.smoothness_sigma_mm=0", "infer.crf.smoothness_sigma_mm"),
        ("infer.crf=on", "infer.crf"),
        ("train.epochs=many", "train.epochs"),
        ("train.epochs=[1", "not YAML"),
        ("train.epochs=0", "greater than or equal to 1"),
        ("train=5", "train"),
        ("train.patch_size=[15, 32, 32]", "divisible"),
    ],
)
def test_settings_that_do_not_fit_are_refused(setting: str, reason: str):
    with pytest.raises(PlanError, match=reason):
        Plan.from_document(document()).with_settings([setting])


# -- recipes -------------------------------------------------------------------------------------------------------


def test_an_empty_recipe_leaves_everything_to_the_data():
    recipe = Recipe.from_document({})
    assert recipe.preprocess.spacing_mm == "auto"
    assert recipe.train.epochs == "auto"
    assert Recipe.from_document(recipe.model_dump(mode="json")) == recipe
    assert recipe.with_settings(["train.epochs=7"]).train.epochs == 7


@pytest.mark.parametrize(
    "document", [{"train": {"epoch": 3}}, {"preprocess": {"spacing_mm": "automatic"}}, {"network": {"kind": "x"}}]
)
def test_a_recipe_with_a_slip_is_refused(document: dict):
    with pytest.raises(PlanError):
        Recipe.from_document(document)


def test_recipes_are_found_by_name_and_path(tmp_path: Path):
    for name in sorted(p.stem for p in recipe_folder().glob("*.yaml")):
        assert read_recipe(name) == Recipe.read(recipe_folder() / f"{name}.yaml")
    (tmp_path / "mine.yaml").write_text("train: {epochs: 3}\n")
    assert read_recipe(str(tmp_path / "mine.yaml")).train.epochs == 3
    (tmp_path / "empty.yaml").write_text("[]\n")
    with pytest.raises(PlanError, match=r"empty\.yaml"):
        read_recipe(str(tmp_path / "empty.yaml"))


@pytest.mark.parametrize("name", ["nothing", "nothing.yaml", "../nothing", "a\0b", ""])
def test_a_recipe_that_is_not_there(name: str):
    with pytest.raises(PlanError, match="there is no recipe"):
        read_recipe(name)


def test_the_patch_divisor_is_the_product_of_strides():
    spec = UNetSpec(dimensions=2, features=(8, 8, 8), strides=((1, 1), (2, 1), (2, 3)), kernels=((3, 3),) * 3)
    assert spec.divisor == (4, 3)


def test_a_network_without_a_kind_is_a_unet():
    whole = document()
    del whole["network"]["kind"]
    assert Plan.from_document(whole).network == Plan.from_document(document()).network
    assert Recipe.from_document({"network": {"dimensions": 2}}).network.kind == "unet"


@pytest.mark.parametrize(
    ("before", "after", "apart", "axis"),
    [
        ((5.0, 1.0, 1.0), (1.0, 1.0, 1.0), "anisotropic", 0),
        ((1.0, 1.0, 1.0), (1.0, 1.0, 4.0), "anisotropic", 2),
        ((3.0, 1.0, 1.0), (1.0, 1.0, 1.0), "anisotropic", None),  # not over three times
        ((0.3, 1.2, 1.2), (1.0, 1.0, 1.0), "anisotropic", None),  # two that are equally long
        ((0.3, 1.2, 1.2), (5.0, 1.0, 1.0), "anisotropic", None),  # the first grid decides
        ((5.0, 1.0, 1.0), (1.0, 1.0, 1.0), "never", None),
        ((1.2, 1.0, 1.0), (5.0, 1.0, 1.0), "always", 0),
        ((1.0, 1.0, 1.0), (5.0, 1.0, 1.0), "always", None),
    ],
)
def test_the_axis_of_thick_slices_is_that_of_nnunet(
    before: tuple[float, ...],
    after: tuple[float, ...],
    apart: Literal["never", "anisotropic", "always"],
    axis: int | None,
) -> None:
    assert Interpolation(apart=apart).axis_apart(before, after) == axis


def test_the_order_of_stored_axes_names_each_once() -> None:
    preprocess = document()["preprocess"] | {"orientation": "stored", "axis_order": ["Y", "Z", "X"]}
    plan = Plan.from_document(document() | {"preprocess": preprocess})
    assert Plan.from_document(parse_yaml(plan.to_yaml())) == plan
    with pytest.raises(PlanError, match="once each"):
        Plan.from_document(document() | {"preprocess": preprocess | {"axis_order": ["Y", "Y", "X"]}})
    with pytest.raises(PlanError, match="for orientation 'stored'"):
        Plan.from_document(document() | {"preprocess": preprocess | {"orientation": "SPL"}})

"""``plans.json`` and ``dataset.json`` as typed values: unknown keys are passed over, what matters must make sense."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from medseg.errors import ModelError
from medseg.nnunet.folder import DATASET, PLANS
from medseg.plan.part import Count, NonNegative, Positive, faults

if TYPE_CHECKING:
    from pathlib import Path

_MOST_BYTES = 64_000_000
_MOST_PARENTS = 10
M = TypeVar("M", bound=BaseModel)
ITSELF = "Segment with nnU-Net itself"  # the remedy for all that medseg does not have
SKIMAGE, TORCH = "resample_data_or_seg_to_shape", "resample_torch_fornnunet"


class _Lenient(BaseModel):
    """A frozen part of a document whose other keys do not matter here."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Strict(BaseModel):
    """A frozen part of a document every key of which matters."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Resampling(_Strict):
    """The arguments of nnU-Net's resampling functions."""

    is_seg: bool = False
    order: int = 3
    order_z: int = 0
    force_separate_z: bool | None = False
    separate_z_anisotropy_threshold: Positive = 3.0
    memefficient_seg_resampling: bool = False
    num_threads: int = 1
    device: Any = None
    mode: str = "linear"
    aniso_axis_mode: str = "nearest-exact"


class NormArguments(_Lenient):
    """Of a norm."""

    eps: Positive = 1e-5
    affine: bool | None = None
    track_running_stats: bool | None = None


class RectifierArguments(_Lenient):
    """Of a rectifier."""

    negative_slope: NonNegative = 0.01


PerStage = int | tuple[int | tuple[int, ...], ...]


class ArchitectureArguments(_Strict):
    """The arguments of nnU-Net's two U-Nets; one that is not here may change what the network computes."""

    n_stages: Annotated[int, Field(ge=2, le=16)]
    features_per_stage: int | tuple[Count, ...]
    conv_op: str
    kernel_sizes: PerStage
    strides: PerStage
    n_conv_per_stage: int | tuple[Count, ...] | None = None
    n_blocks_per_stage: int | tuple[Count, ...] | None = None
    n_conv_per_stage_decoder: int | tuple[Count, ...]
    conv_bias: bool = False
    norm_op: str | None = None
    norm_op_kwargs: NormArguments | None = None
    dropout_op: Any = None
    dropout_op_kwargs: Any = None
    nonlin: str | None = None
    nonlin_kwargs: RectifierArguments | None = None
    nonlin_first: bool = False
    deep_supervision: bool = False
    block: str | None = None
    bottleneck_channels: int | tuple[int | None, ...] | None = None
    stem_channels: int | None = None


class Architecture(_Lenient):
    """A network by the name of its class, and its arguments, not yet looked at: another class has others."""

    network_class_name: str
    arch_kwargs: dict[str, Any]


class Intensities(_Lenient):
    """Of one channel's foreground over the training cases."""

    mean: float
    std: float
    percentile_00_5: float
    percentile_99_5: float


def _with_architecture(value: Any) -> Any:
    """Return a configuration with its architecture where older plans have it."""
    if not isinstance(value, dict) or "architecture" in value:
        return value
    if "network_arch_class_name" in value:
        named = {
            "network_class_name": value["network_arch_class_name"],
            "arch_kwargs": value.get("network_arch_init_kwargs"),
        }
        return value | {"architecture": named}
    if "UNet_class_name" in value:
        return value | {"architecture": _first_architecture(value)}
    return value


def _first_architecture(value: dict[str, Any]) -> dict[str, Any]:
    """Return the network that the first plans of version 2 describe by a few numbers."""
    name, convs = value["UNet_class_name"], value.get("n_conv_per_stage_encoder")
    stages = len(convs) if isinstance(convs, list) else 0
    base, most = value.get("UNet_base_num_features"), value.get("unet_max_num_features")
    numbers = isinstance(base, int) and isinstance(most, int)
    patch = value.get("patch_size")
    dimensions = len(patch) if isinstance(patch, list) else 0
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": [min(base * 2**i, most) for i in range(stages)] if numbers else None,
            "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
            "kernel_sizes": value.get("conv_kernel_sizes"),
            "strides": value.get("pool_op_kernel_sizes"),
            "n_blocks_per_stage" if name == "ResidualEncoderUNet" else "n_conv_per_stage": convs,
            "n_conv_per_stage_decoder": value.get("n_conv_per_stage_decoder"),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "torch.nn.LeakyReLU",
        },
    }


class _Configuration(_Lenient):
    """One entry of ``configurations``."""

    preprocessor_name: str = "DefaultPreprocessor"
    patch_size: tuple[Count, ...] = Field(min_length=2, max_length=3)
    batch_size: Count
    spacing: tuple[Positive, ...] = Field(min_length=2, max_length=3)
    normalization_schemes: tuple[str, ...] = Field(min_length=1)
    use_mask_for_norm: tuple[bool, ...]
    resampling_fn_data: str = SKIMAGE
    resampling_fn_data_kwargs: Resampling = Resampling(order=3, force_separate_z=None)
    resampling_fn_probabilities: str = SKIMAGE
    resampling_fn_probabilities_kwargs: Resampling = Resampling(order=1, force_separate_z=None)
    previous_stage: str | None = None
    architecture: Architecture


class _Plans(_Lenient):
    """What ``plans.json`` says beside its configurations."""

    dataset_name: str = ""
    plans_name: str = ""
    original_median_spacing_after_transp: tuple[Positive, ...] = (1.0, 1.0, 1.0)
    image_reader_writer: str
    transpose_forward: tuple[int, ...]
    label_manager: str = "LabelManager"
    foreground_intensity_properties_per_channel: dict[str, Intensities] = Field(default_factory=dict)
    configurations: dict[str, dict[str, Any]]


class _Dataset(_Lenient):
    """What ``dataset.json`` says of channels and labels."""

    channel_names: dict[str, str]
    labels: dict[str, int | tuple[int, ...]]
    name: str = ""
    number: Annotated[int, BeforeValidator(lambda value: value if isinstance(value, int) else 0)] = Field(
        default=0, alias="numTraining"
    )


class Configuration(BaseModel):
    """One configuration of a trained folder, with all that holds for the whole folder.

    Attributes
    ----------
    name : str
        ``3d_fullres``, ``2d``, ...
    plans, dataset, own : typed documents
        Of the folder, of its data set, and of the configuration, inherited values filled in.
    where : str
        The folder, for errors.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    plans: _Plans
    dataset: _Dataset
    own: _Configuration
    where: str


def read_configuration(folder: Path, name: str) -> Configuration:
    """Return a configuration of a trained folder.

    Parameters
    ----------
    folder : Path
        It holds ``plans.json`` and ``dataset.json``.
    name : str
        The configuration, as its checkpoints name it.

    Raises
    ------
    ModelError
        Where a document cannot be read, or does not say what is needed.
    """
    plans_document = _document(folder / PLANS)
    per_channel = "foreground_intensity_properties_per_channel"
    plans_document.setdefault(per_channel, plans_document.get("foreground_intensity_properties_by_modality") or {})
    plans = _parsed(_Plans, plans_document, folder / PLANS)
    dataset_document = _document(folder / DATASET)
    dataset_document.setdefault("channel_names", dataset_document.get("modality"))
    dataset = _parsed(_Dataset, dataset_document, folder / DATASET)
    own = _parsed(_Configuration, _with_architecture(_inherited(plans, name, folder / PLANS)), folder / PLANS)
    return Configuration(name=name, plans=plans, dataset=dataset, own=own, where=str(folder))


def _inherited(plans: _Plans, name: str, path: Path) -> dict[str, Any]:
    """Return a configuration over those it inherits from."""
    chain: list[dict[str, Any]] = []
    wanted: object = name
    while wanted is not None:
        found = plans.configurations.get(wanted) if isinstance(wanted, str) else None
        if found is None or len(chain) > _MOST_PARENTS:
            raise ModelError(
                f"the plans have no configuration {wanted!r}" if found is None else f"{name!r} inherits without end",
                expected=f"one of {', '.join(plans.configurations)}",
                where=str(path),
            )
        chain.append(found)
        wanted = found.get("inherits_from")
    return {key: value for document in reversed(chain) for key, value in document.items()}


def _document(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ModelError("the file is larger than any of its kind", expected=f"{_MOST_BYTES:,} bytes at most")
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeError, ValueError, RecursionError) as error:
        raise ModelError(f"the file cannot be read as JSON ({type(error).__name__})", where=str(path)) from error
    except ModelError as error:
        raise error.at(str(path)) from error
    if not isinstance(document, dict):
        raise ModelError("the file is no JSON object", expected=f"a {path.name} of nnU-Net v2", where=str(path))
    return document


def _parsed(kind: type[M], document: object, path: Path) -> M:
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise ModelError(faults(error), expected=f"a {path.name} of nnU-Net v2", where=str(path)) from error

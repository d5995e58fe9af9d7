"""nnU-Net's description of a network as ours: two classes are known, every argument is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from medseg.errors import ModelError
from medseg.nnunet.plans import ITSELF, ArchitectureArguments
from medseg.plan import UNetSpec
from medseg.plan.part import faults

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.nnunet.plans import Configuration, PerStage

PLAIN, RESIDUAL = "PlainConvUNet", "ResidualEncoderUNet"
_PACKAGE = "dynamic_network_architectures.architectures"


def to_spec(configuration: Configuration, *, has_batch_norm: bool) -> UNetSpec:
    """Return the network of a configuration.

    Parameters
    ----------
    configuration : Configuration
        Its architecture is named by class and arguments.
    has_batch_norm : bool
        Whether the weights hold running statistics: a trainer may put batch norms where the plans have instance norms.

    Raises
    ------
    ModelError
        Where class or arguments are others than those of nnU-Net's U-Nets.
    """
    try:
        return _spec(configuration, has_batch_norm=has_batch_norm)
    except ValidationError as error:
        raise ModelError(
            f"the network of the plans makes no sense ({faults(error)})", where=_where(configuration)
        ) from error


def _spec(configuration: Configuration, *, has_batch_norm: bool) -> UNetSpec:
    class_name = configuration.own.architecture.network_class_name
    package, _, name = class_name.rpartition(".")
    if name not in (PLAIN, RESIDUAL) or not package.startswith(_PACKAGE):
        raise ModelError(
            f"the network is {class_name!r}",
            expected=f"{PLAIN} or {RESIDUAL}, the networks nnU-Net plans",
            where=_where(configuration),
            remedy=ITSELF,
        )
    arguments = ArchitectureArguments.model_validate(configuration.own.architecture.arch_kwargs)
    dimensions = len(configuration.own.patch_size)
    _require_usual(arguments, dimensions, where=_where(configuration))
    n = arguments.n_stages
    features = _row(arguments.features_per_stage, n)
    down = _row(arguments.n_conv_per_stage, n) if name == PLAIN else ()
    up = _row(arguments.n_conv_per_stage_decoder, n - 1)
    norm = arguments.norm_op_kwargs
    return UNetSpec(
        dimensions=3 if dimensions == 3 else 2,
        features=features,
        strides=_rows(arguments.strides, n, dimensions),
        kernels=_rows(arguments.kernel_sizes, n, dimensions),
        residual_blocks=_row(arguments.n_blocks_per_stage, n) if name == RESIDUAL else (),
        convs_per_stage=up[0] if len({*down, *up}) == 1 else 2,
        encoder_convs=() if len({*down, *up}) == 1 else down,
        decoder_convs=() if len({*down, *up}) == 1 else up,
        norm="batch" if has_batch_norm else "instance",
        norm_eps=norm.eps if norm else 1e-5,
        leak=_leak(arguments),
    )


def _require_usual(arguments: ArchitectureArguments, dimensions: int, *, where: str) -> None:
    """Refuse what our network has no counterpart of."""
    unusual = {
        f"convolutions {arguments.conv_op!r}": not arguments.conv_op.endswith(f".Conv{dimensions}d"),
        f"the norm {arguments.norm_op!r}": not _is_known_norm(arguments.norm_op),
        f"the rectifier {arguments.nonlin!r}": _last(arguments.nonlin) not in {"LeakyReLU", "ReLU"},
        "rectifiers before the norms": arguments.nonlin_first,
        f"blocks {arguments.block!r}": _last(arguments.block) not in {"", "BasicBlockD"},
        "bottlenecks": _is_given(arguments.bottleneck_channels),
        "a stem of another width than the first stage": arguments.stem_channels
        not in {None, _row(arguments.features_per_stage, arguments.n_stages)[0]},
        "running statistics in instance norms": bool(
            arguments.norm_op_kwargs and arguments.norm_op_kwargs.track_running_stats
        )
        and "Instance" in (arguments.norm_op or ""),
    }
    found = next((what for what, is_there in unusual.items() if is_there), None)
    if found is not None:
        raise ModelError(
            f"the network has {found}",
            expected="a U-Net of convolution, instance or batch norm, and (leaky) ReLU, as nnU-Net plans it",
            where=where,
            remedy=ITSELF,
        )


def _is_known_norm(name: str | None) -> bool:
    return _last(name)[:-2] in {"InstanceNorm", "BatchNorm"}


def _is_given(channels: int | tuple[int | None, ...] | None) -> bool:
    return any(c is not None for c in channels) if isinstance(channels, tuple) else channels is not None


def _leak(arguments: ArchitectureArguments) -> float:
    if _last(arguments.nonlin) == "ReLU":
        return 0.0
    return arguments.nonlin_kwargs.negative_slope if arguments.nonlin_kwargs else 0.01


def _last(name: str | None) -> str:
    return (name or "").rpartition(".")[2]


def _row(value: int | Sequence[int] | None, count: int) -> tuple[int, ...]:
    """Return one number per stage; one number stands for all."""
    return (value,) * count if isinstance(value, int) else tuple(value or ())


def _rows(value: PerStage, count: int, dimensions: int) -> tuple[tuple[int, ...], ...]:
    """Return as many numbers as dimensions per stage."""
    stages = (value,) * count if isinstance(value, int) else value
    return tuple((stage,) * dimensions if isinstance(stage, int) else stage for stage in stages)


def _where(configuration: Configuration) -> str:
    return f"{configuration.where}, {configuration.name}"

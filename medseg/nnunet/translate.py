"""A configuration of nnU-Net as a medseg plan: grid, grey values, network, windows, labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from medseg.errors import MedsegError, ModelError
from medseg.labels import LabelSet
from medseg.nnunet.architecture import to_spec
from medseg.nnunet.plans import ITSELF, SKIMAGE, TORCH
from medseg.plan import (
    AugmentPlan,
    ClipZScore,
    Divide,
    InferPlan,
    Interpolation,
    Plan,
    PreprocessPlan,
    Rescale,
    ScanFirst,
    Sgd,
    TrainPlan,
    Unchanged,
    ZScore,
)
from medseg.plan.part import AXES, faults

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.nnunet.plans import Configuration, Resampling
    from medseg.plan import Normalisation
    from medseg.plan.part import AxisName

_STORED = frozenset({"SimpleITKIO", "NibabelIO", "Tiff3DIO", "NaturalImage2DIO"})
_TURNED = frozenset({"SimpleITKIOWithReorient", "NibabelIOWithReorient"})
_RAS = "SAR"  # nnU-Net's "RAS" is along (x, y, z)
_SMALLEST_STD = 1e-8  # nnU-Net divides by no less


def to_plan(configuration: Configuration, *, mirror_axes: Sequence[int], has_batch_norm: bool = False) -> Plan:
    """Return the plan by which medseg segments as nnU-Net does with this configuration.

    Parameters
    ----------
    configuration : Configuration
        What plans and data set say.
    mirror_axes : sequence of int
        Axes of the patch along which inference may mirror, as the checkpoint has them.
    has_batch_norm : bool
        See `architecture.to_spec`.

    Raises
    ------
    ModelError
        Where the configuration asks for what medseg does not have: a cascade, regions, another reader, ...
    """
    own, where = configuration.own, f"{configuration.where}, {configuration.name}"
    _require_supported(configuration, where)
    names, ignored = _labels(configuration, where)
    flat = len(own.patch_size) == 2
    patch = (1, *own.patch_size) if flat else own.patch_size
    axes = tuple(AXES[axis + flat] for axis in mirror_axes if axis + flat < len(AXES))
    try:
        return Plan(
            channels=_channels(configuration, where),
            labels=LabelSet.from_names(names),
            preprocess=_preprocess(configuration, where),
            network=to_spec(configuration, has_batch_norm=has_batch_norm),
            train=TrainPlan(
                patch_size=(patch[0], patch[1], patch[2]),
                batch_size=own.batch_size,
                optimizer=Sgd(),
                augment=AugmentPlan(mirror_axes=axes),
            ),
            infer=InferPlan(mirror_axes=axes, windows="nnunet", precision="fp32"),
            ignore_label=ignored,
        )
    except MedsegError as error:
        raise ModelError(
            error.found, expected=error.expected, where=error.where or where, remedy=error.remedy
        ) from error
    except ValidationError as error:
        raise ModelError(f"the plans contradict themselves ({faults(error)})", where=where) from error


def _require_supported(configuration: Configuration, where: str) -> None:
    own, plans = configuration.own, configuration.plans
    if own.previous_stage is not None:
        raise ModelError(
            f"the configuration goes on from the masks of {own.previous_stage!r} (a cascade)",
            expected="a network that sees the scan alone, such as 3d_fullres, 3d_lowres or 2d",
            where=where,
            remedy=ITSELF,
        )
    for found, known in ((own.preprocessor_name, "DefaultPreprocessor"), (plans.label_manager, "LabelManager")):
        if found != known:
            raise ModelError(f"the plans name {found!r}", expected=known, where=where, remedy=ITSELF)
    if plans.image_reader_writer not in _STORED | _TURNED:
        raise ModelError(
            f"the plans name the reader {plans.image_reader_writer!r}",
            expected=f"one of {', '.join(sorted(_STORED | _TURNED))}",
            where=where,
            remedy=ITSELF,
        )
    if sorted(plans.transpose_forward) != [0, 1, 2]:
        raise ModelError(
            f"transpose_forward is {plans.transpose_forward}", expected="0, 1 and 2 once each", where=where
        )
    if len(own.spacing) < len(own.patch_size):
        raise ModelError(f"the spacing is {own.spacing}", expected=f"{len(own.patch_size)} lengths", where=where)


def _channels(configuration: Configuration, where: str) -> tuple[str, ...]:
    """Return the names of the channels, each once."""
    given = configuration.dataset.channel_names
    if sorted(given) != sorted(map(str, range(len(given)))):
        raise ModelError(f"the channels are numbered {', '.join(given)}", expected="0, 1, ...", where=where)
    names = [given[str(i)].strip() or f"channel {i}" for i in range(len(given))]
    return tuple(name if names.count(name) == 1 else f"{name} {i}" for i, name in enumerate(names))


def _labels(configuration: Configuration, where: str) -> tuple[dict[int, str], int | None]:
    """Return the labels by id, and the id of what is to be ignored."""
    single: dict[str, int] = {}
    for name, value in configuration.dataset.labels.items():
        ids = (value,) if isinstance(value, int) else tuple(dict.fromkeys(value))
        if len(ids) != 1:
            raise ModelError(
                f"the label {name!r} is a region, the union of {', '.join(map(str, ids))}",
                expected="labels that exclude each other: regions overlap, and are not supported",
                where=where,
                remedy=ITSELF,
            )
        single[name] = ids[0]
    ignored = single.pop("ignore", None)
    if single.pop("background", None) != 0:
        raise ModelError("the labels have no background of value 0", expected="'background': 0", where=where)
    if sorted(single.values()) != list(range(1, len(single) + 1)):
        raise ModelError(
            f"the labels have the values {', '.join(map(str, sorted(single.values())))}",
            expected="1, 2, ... without gaps, as nnU-Net wants them",
            where=where,
        )
    return {value: name for name, value in single.items()}, ignored


def _preprocess(configuration: Configuration, where: str) -> PreprocessPlan:
    own, plans = configuration.own, configuration.plans
    turn = plans.transpose_forward
    turned = plans.image_reader_writer in _TURNED
    axes: list[AxisName] = [AXES[axis] for axis in turn]
    across = plans.original_median_spacing_after_transp[0]
    spacing = own.spacing if len(own.spacing) == 3 else (across, *own.spacing)
    return PreprocessPlan(
        orientation="".join(_RAS[axis] for axis in turn) if turned else "stored",
        axis_order=AXES if turned else (axes[0], axes[1], axes[2]),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        normalisation=_normalisation(configuration, where),
        scan_first=ScanFirst(
            crop="nonzero",
            image=_interpolation(own.resampling_fn_data, own.resampling_fn_data_kwargs, where),
            scores=_scores(own.resampling_fn_probabilities, own.resampling_fn_probabilities_kwargs, where),
        ),
    )


def _normalisation(configuration: Configuration, where: str) -> tuple[Normalisation, ...]:
    schemes, masked = configuration.own.normalization_schemes, configuration.own.use_mask_for_norm
    channels = len(configuration.dataset.channel_names)
    if len(schemes) != channels or len(masked) != channels:
        raise ModelError(f"there are {len(schemes)} normalisations", expected=f"{channels}, one a channel", where=where)
    properties = configuration.plans.foreground_intensity_properties_per_channel
    found: list[Normalisation] = []
    for channel, (scheme, is_masked) in enumerate(zip(schemes, masked, strict=True)):
        match scheme:
            case "CTNormalization" if str(channel) in properties:
                of = properties[str(channel)]
                std = max(of.std, _SMALLEST_STD)
                found.append(ClipZScore(low=of.percentile_00_5, high=of.percentile_99_5, mean=of.mean, std=std))
            case "ZScoreNormalization":
                found.append(ZScore(within="nonzero" if is_masked else "image"))
            case "RescaleTo01Normalization":
                found.append(Rescale())
            case "RGBTo01Normalization":
                found.append(Divide(by=255.0))
            case "NoNormalization":
                found.append(Unchanged())
            case _:
                known = "CT-, ZScore-, RescaleTo01-, RGBTo01- or NoNormalization, with the intensities CT needs"
                raise ModelError(f"channel {channel} has {scheme!r}", expected=known, where=where, remedy=ITSELF)
    return tuple(found)


def _interpolation(function: str, arguments: Resampling, where: str) -> Interpolation:
    """Return how nnU-Net's function interpolates: splines by scikit-image, or linearly by PyTorch."""
    is_torch = function == TORCH
    forced = None if is_torch and "force_separate_z" not in arguments.model_fields_set else arguments.force_separate_z
    order, across = (1, 0) if is_torch else (arguments.order, arguments.order_z)
    usual = arguments.mode == "linear" and arguments.aniso_axis_mode == "nearest-exact" and not arguments.is_seg
    if function not in {SKIMAGE, TORCH} or order not in {1, 3} or across not in {0, 1, 3} or not usual:
        raise ModelError(
            f"the plans resample by {function!r} with {arguments.model_dump(exclude_unset=True)}",
            expected=f"{SKIMAGE!r} of order 1 or 3, or {TORCH!r}, linear",
            where=where,
            remedy=ITSELF,
        )
    return Interpolation(
        order=3 if order == 3 else 1,
        apart="anisotropic" if forced is None else "always" if forced else "never",
        across=3 if across == 3 else 1 if across == 1 else 0,
        anisotropy=arguments.separate_z_anisotropy_threshold,
    )


def _scores(function: str, arguments: Resampling, where: str) -> Interpolation:
    found = _interpolation(function, arguments, where)
    if found.order != 1 or found.across == 3:
        raise ModelError(
            f"the scores of the classes are resampled by splines of order {max(found.order, found.across)}",
            expected="linearly, as nnU-Net plans it",
            where=where,
            remedy=ITSELF,
        )
    return found

"""Plan: everything that is decided, ready to train or to segment with."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from medseg.labels import MAX_LABEL_ID
from medseg.plan.crf import CrfPlan
from medseg.plan.instances import InstancePlan
from medseg.plan.interpolation import ScanFirst
from medseg.plan.loss import class_weights
from medseg.plan.monai_networks import MedNeXtSpec, SwinUNETRSpec
from medseg.plan.network import NetworkSpec, smallest_batch
from medseg.plan.part import AXES, AxisName, Codes, Count, Labels, Part, Positive, Selection, Share, Triple
from medseg.plan.training import TrainPlan


class ZScore(Part):
    """Each image by its own mean and standard deviation.

    `within` ``nonzero``: by those of the voxels where any channel is not 0, holes filled; the others stay as they are.
    """

    kind: Literal["zscore"] = "zscore"
    within: Literal["image", "nonzero"] = "image"


class ClipZScore(Part):
    """Clip to the foreground's 0.5 and 99.5 percentiles, then one mean and standard deviation for all (CT)."""

    kind: Literal["clip_zscore"] = "clip_zscore"
    low: FiniteFloat
    high: FiniteFloat
    mean: FiniteFloat
    std: Positive

    @model_validator(mode="after")
    def _low_is_low(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low ({self.low:g}) must not be above high ({self.high:g})")
        return self


class Rescale(Part):
    """Each image from its own minimum and maximum to 0 and 1 (8-bit pictures)."""

    kind: Literal["rescale"] = "rescale"


class Divide(Part):
    """Every image by one number (colours of 8 bits by 255)."""

    kind: Literal["divide"] = "divide"
    by: Positive


class Unchanged(Part):
    """Values as they are in the file."""

    kind: Literal["none"] = "none"


Normalisation = Annotated[ZScore | ClipZScore | Rescale | Divide | Unchanged, Field(discriminator="kind")]


class PreprocessPlan(Part):
    """How a scan becomes what the network sees.

    Attributes
    ----------
    orientation : str
        Of the working grid: three letters, or ``stored`` for that of the file.
    spacing_mm : three float
        Of the working grid along (Z, Y, X).
    normalisation : one per channel
        Of grey values.
    axis_order : "Z", "Y", "X" in any order
        Where the orientation is ``stored``: which axis of the file each axis of the working grid is.
    scan_first : ScanFirst or None
        Crop and normalise the scan itself, then interpolate (imported models). None: interpolate, then normalise.
    """

    orientation: Codes = "SPL"
    spacing_mm: Triple
    normalisation: tuple[Normalisation, ...] = Field(min_length=1)
    axis_order: tuple[AxisName, AxisName, AxisName] = ("Z", "Y", "X")
    scan_first: ScanFirst | None = None

    @model_validator(mode="after")
    def _axes_agree(self) -> Self:
        if sorted(self.axis_order) != sorted(AXES):
            raise ValueError(f"axis_order must name Z, Y and X once each, not {', '.join(self.axis_order)}")
        if self.axis_order != AXES and self.orientation != "stored":
            raise ValueError("axis_order is for orientation 'stored'; three letters say the order of axes themselves")
        return self


class InferPlan(Part):
    """How a scan is segmented: window overlap, mirroring for `--tta`, what is tidied afterwards, what is selected.

    `largest_component`, `minimum_ml` and `fill_holes` say by label id what is tidied (`medseg.postprocess`), in this
    order. `windows` says how windows are placed and weighted (`medseg.tiling`): evenly, or just as nnU-Net or MONAI do.
    `instances` is how the mask is taken apart into numbered objects (docs/instances.md); by default it is not.
    `crf` refines what the network says; null for no CRF. `precision` is what ``--precision auto`` takes; null:
    what the hardware has.
    """

    overlap: Share = 0.5
    windows: Literal["even", "nnunet", "monai"] = "even"
    precision: Literal["fp32", "bf16"] | None = None
    mirror_axes: tuple[AxisName, ...] = ()
    largest_component: tuple[Count, ...] = ()
    minimum_ml: dict[Count, Positive] = Field(default_factory=dict)
    fill_holes: tuple[Count, ...] = ()
    instances: InstancePlan | None = None
    select: Selection = ""
    crf: CrfPlan | None = None


class InitialNote(Part):
    """The weights a training starts from, known again by their name and the SHA-256 of their content."""

    name: str = Field(min_length=1)
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

    @property
    def in_words(self) -> str:
        """What a person is told of it."""
        return f"{self.name} (SHA-256 {self.sha256[:12]}...)"


class Plan(Part):
    """Everything that is decided, ready to train or to segment with."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    channels: tuple[str, ...] = Field(min_length=1)
    labels: Labels
    preprocess: PreprocessPlan
    network: NetworkSpec
    train: TrainPlan
    infer: InferPlan = Field(default_factory=InferPlan)
    ignore_label: Annotated[int, Field(ge=1, le=MAX_LABEL_ID)] | None = None
    """The id of reference voxels nobody decided on: nothing is learned from them, nothing is scored on them."""
    initial: InitialNote | None = None

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if len(self.preprocess.normalisation) != len(self.channels):
            raise ValueError(f"there must be {len(self.channels)} normalisations, one per channel")
        spatial = self.spatial_patch
        if len(spatial) != self.network.dimensions:
            raise ValueError(
                "a 2-D network needs a patch with exactly one side of 1, the slice axis; a 3-D network one without"
            )
        if any(side % d for side, d in zip(spatial, self.network.divisor, strict=True)):
            raise ValueError(
                f"the patch {self.train.patch_size} must be divisible by the network's strides {self.network.divisor}"
            )
        if self.train.batch_size < smallest_batch(self.network):
            raise ValueError(
                f"batch_size must be {smallest_batch(self.network)} or more: batch norm of a pooled map has nothing to "
                "average in one patch; or let the network's norm be instance"
            )
        if isinstance(self.network, (SwinUNETRSpec, MedNeXtSpec)) and spatial == self.network.divisor:
            raise ValueError(f"one side of the patch must be {2 * spatial[0]} or more: norms of one voxel say nothing")
        if not len(self.labels):
            raise ValueError("labels must name at least one structure")
        return self

    @model_validator(mode="after")
    def _tidied_are_known(self) -> Self:
        for field in ("largest_component", "minimum_ml", "fill_holes"):
            unknown = sorted(set(getattr(self.infer, field)) - set(self.labels.ids))
            if unknown:
                raise ValueError(f"{field} names label {unknown[0]}, which is not in the label set")
        return self

    @model_validator(mode="after")
    def _ignores_no_label(self) -> Self:
        if self.ignore_label in self.labels.ids:
            raise ValueError(f"ignore_label is {self.ignore_label}, which is a label")
        return self

    @model_validator(mode="after")
    def _loss_fits(self) -> Self:
        given, classes = len(class_weights(self.train.loss)), len(self.labels) + 1
        if given not in {0, classes}:
            raise ValueError(f"the loss has {given} class weights; there must be {classes}, the background's first")
        return self

    @model_validator(mode="after")
    def _instances_are_known(self) -> Self:
        wanted = self.infer.instances.labels if self.infer.instances else ()
        unknown = sorted(set(wanted) - set(self.labels.ids))
        if unknown:
            raise ValueError(f"instances names label {unknown[0]}, which is not in the label set")
        return self

    @property
    def spatial_patch(self) -> tuple[int, ...]:
        """The patch as the network sees it: without the slice axis in 2-D."""
        patch = self.train.patch_size
        if self.network.dimensions == 3:
            return patch
        axis = self.slice_axis
        return tuple(side for i, side in enumerate(patch) if i != axis)

    @property
    def spatial_spacing_mm(self) -> tuple[float, ...]:
        """The spacing along the axes of `spatial_patch`."""
        return tuple(s for axis, s in enumerate(self.preprocess.spacing_mm) if axis != self.slice_axis)

    @property
    def slice_axis(self) -> int | None:
        """The working grid's axis a 2-D network sees slices along; None in 3-D."""
        if self.network.dimensions == 3:
            return None
        patch = self.train.patch_size
        return patch.index(1) if 1 in patch else None

"""Networks wholly described by data: what `medseg.networks.build` builds."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from medseg.plan.encoder import EncoderSpec, Norm, ResNetSpec, Stride, VGGSpec, total_stride
from medseg.plan.monai_networks import MedNeXtSpec, SegResNetSpec, SwinUNETRSpec
from medseg.plan.part import Count, NonNegative, Part, Positive, Share


class UNetSpec(Part):
    """A U-Net in nnU-Net's form: one entry per stage, full resolution first (Ronneberger 2015; Isensee 2021).

    Attributes
    ----------
    residual_blocks : int per stage, or none
        Residual blocks of each encoder stage (Isensee 2024, arXiv:2404.09556); without them stages are plain.
    convs_per_stage : int
        Convolutions of a plain stage; with residual blocks, of a decoder stage.
    encoder_convs, decoder_convs : int per stage, or none
        The same where stages differ; those of the decoder go up, the coarsest first.
    norm : str
        ``instance``, or ``batch`` with the statistics of training.
    norm_eps : float
        Added to a norm's variance.
    leak : float
        Slope of the rectifiers below zero.
    """

    kind: Literal["unet"] = "unet"
    dimensions: Literal[2, 3]
    features: tuple[Count, ...] = Field(min_length=2)
    strides: tuple[tuple[Count, ...], ...]
    kernels: tuple[tuple[Count, ...], ...]
    convs_per_stage: Count = 2
    residual_blocks: tuple[Count, ...] = ()
    deep_supervision: bool = False
    encoder_convs: tuple[Count, ...] = ()
    decoder_convs: tuple[Count, ...] = ()
    norm: Literal["instance", "batch"] = "instance"
    norm_eps: Positive = 1e-5
    leak: Share = 0.01

    @property
    def convs_down(self) -> tuple[int, ...]:
        """Convolutions of each plain encoder stage."""
        return self.encoder_convs or (self.convs_per_stage,) * len(self.features)

    @property
    def convs_up(self) -> tuple[int, ...]:
        """Convolutions of each decoder stage, the coarsest first."""
        return self.decoder_convs or (self.convs_per_stage,) * (len(self.features) - 1)

    @property
    def in_words(self) -> str:
        """What a person is told of it."""
        blocks = ", residual" if self.residual_blocks else ""
        return f"U-Net, {self.dimensions}-D{blocks}, features {', '.join(map(str, self.features))}"

    @model_validator(mode="after")
    def _stages_agree(self) -> Self:
        stages = len(self.features)
        if len(self.strides) != stages or len(self.kernels) != stages:
            raise ValueError(f"features, strides and kernels must each have {stages} stages")
        if self.residual_blocks and len(self.residual_blocks) != stages:
            raise ValueError(f"residual_blocks must be empty or have {stages} numbers, one per stage")
        if len(self.convs_down) != stages or len(self.convs_up) != stages - 1:
            raise ValueError(f"encoder_convs must be empty or have {stages} numbers, decoder_convs {stages - 1}")
        if any(len(t) != self.dimensions for t in (*self.strides, *self.kernels)):
            raise ValueError(f"every stride and kernel must have {self.dimensions} numbers")
        if any(s != 1 for s in self.strides[0]) or any(k % 2 == 0 for t in self.kernels for k in t):
            raise ValueError("the first stage has stride 1, and kernels are odd")
        return self

    @property
    def divisor(self) -> tuple[int, ...]:
        """What each patch side must be a multiple of: the product of the strides."""
        return total_stride(self.strides)


class ClassicUNetSpec(Part):
    """A U-Net as first published: max pooling, ReLU, transposed convolutions (Ronneberger 2015; Cicek 2016).

    Attributes
    ----------
    features : int per level
        Full resolution first.
    strides : one per level but the first
        Of the poolings between levels.
    padding : str
        ``valid``: convolutions without padding, as in 2015, over an image that is mirrored at its edges by as much as
        they take off; ``same``: with zeros, as most use it since.
    norm : str
        ``none`` in 2015, ``batch`` in 2016.
    widens_early : bool
        The 3-D U-Net of 2016 doubles its features in the convolution before the pooling, and transposed convolutions
        keep theirs; that of 2015 doubles behind the pooling, and transposed convolutions halve.
    """

    kind: Literal["classic_unet"] = "classic_unet"
    dimensions: Literal[2, 3]
    features: tuple[Count, ...] = Field(min_length=2)
    strides: tuple[Stride, ...]
    padding: Literal["same", "valid"] = "same"
    norm: Norm = "none"
    widens_early: bool = False
    dropout: Share = 0.0

    @property
    def in_words(self) -> str:
        """What a person is told of it."""
        return f"U-Net as first published, {self.dimensions}-D, features {', '.join(map(str, self.features))}"

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        if len(self.strides) != len(self.features) - 1 or any(len(s) != self.dimensions for s in self.strides):
            raise ValueError(f"there must be {len(self.features) - 1} strides of {self.dimensions} numbers")
        if self.widens_early and any(f % 2 for f in self.features):
            raise ValueError("features must be even where they are doubled before the pooling")
        return self

    @property
    def divisor(self) -> tuple[int, ...]:
        """What each patch side must be a multiple of: the product of the strides."""
        return total_stride(self.strides)


class _OnEncoder(Part):
    """What networks on an encoder have in common; where their heads have a norm, it is the encoder's."""

    dimensions: Literal[2, 3]
    encoder: EncoderSpec
    dropout: Share = 0.5

    @model_validator(mode="after")
    def _dimensions_agree(self) -> Self:
        if self.encoder.dimensions != self.dimensions:
            raise ValueError(f"the encoder's strides must have {self.dimensions} numbers")
        return self

    @property
    def divisor(self) -> tuple[int, ...]:
        """What each patch side must be a multiple of: the stride of the coarsest feature map."""
        return self.encoder.divisor

    def _on(self, name: str) -> str:
        """Return what a person is told of it."""
        coarsest = " x ".join(map(str, self.divisor))
        return f"{name} on {self.encoder.name}, {self.dimensions}-D, {self.encoder.width} features, stride {coarsest}"


class FCNSpec(_OnEncoder):
    """A fully convolutional network (Long 2015, arXiv:1411.4038; Shelhamer 2017, arXiv:1605.06211).

    On VGG, the classifier's layers become convolutions and scores of finer maps are added on the way up: none for
    ``32s``, that of the fourth pooling for ``16s``, of the third too for ``8s``. On a ResNet, torchvision's form: a
    dilated encoder, one 3-wide convolution, scores, linear interpolation; `variant` means nothing there.

    Attributes
    ----------
    classifier_features, classifier_kernel : int
        Of the convolutions fc6 and fc7; published: 4096, 7 wide.
    auxiliary_weight : float
        Share in the loss of scores taken from the last map but one, in training; 0 is without.
    """

    kind: Literal["fcn"] = "fcn"
    variant: Literal["32s", "16s", "8s"] = "8s"
    classifier_features: Count = 4096
    classifier_kernel: Count = 7
    auxiliary_weight: NonNegative = 0.0

    @property
    def in_words(self) -> str:
        """What a person is told of it."""
        return self._on("FCN" if isinstance(self.encoder, ResNetSpec) else f"FCN-{self.variant}")

    @model_validator(mode="after")
    def _fits_encoder(self) -> Self:
        if self.classifier_kernel % 2 == 0:
            raise ValueError("classifier_kernel must be odd")
        if self.auxiliary_weight and isinstance(self.encoder, VGGSpec):
            raise ValueError("auxiliary_weight needs a ResNet; on VGG the finer scores are part of the network")
        return self


class DeepLabSpec(_OnEncoder):
    """DeepLab: atrous convolution, four generations.

    ``v1``: one dilated classifier with a large field of view (Chen 2015, arXiv:1412.7062); ``v2``: the sum of several
    (ASPP; Chen 2018, arXiv:1606.00915); ``v3``: they are concatenated, with the image's mean beside them (Chen 2017,
    arXiv:1706.05587); ``v3+``: and a decoder that reads a fine map (Chen 2018, arXiv:1802.02611).

    Attributes
    ----------
    rates : tuple of int
        Dilation of each branch.
    head_features : int
        Of each branch: published 1024 on VGG (v1, v2), 256 (v3, v3+). On a ResNet, v2's branches give scores at once.
    low_level_features : int
        What the fine map is brought to in v3+: 48.
    """

    kind: Literal["deeplab"] = "deeplab"
    version: Literal["v1", "v2", "v3", "v3+"] = "v3"
    rates: tuple[Count, ...] = Field(default=(12, 24, 36), min_length=1)
    head_features: Count = 256
    low_level_features: Count = 48
    auxiliary_weight: NonNegative = 0.0

    @property
    def in_words(self) -> str:
        """What a person is told of it."""
        return self._on(f"DeepLab {self.version}")

    @model_validator(mode="after")
    def _fits_version(self) -> Self:
        if self.version == "v1" and (len(self.rates) != 1 or isinstance(self.encoder, ResNetSpec)):
            raise ValueError("v1 has one rate, and stands on VGG")
        if self.version in {"v3", "v3+"} and isinstance(self.encoder, VGGSpec):
            raise ValueError(f"{self.version} stands on a ResNet")
        if self.auxiliary_weight and self.version not in {"v3", "v3+"}:
            raise ValueError("auxiliary_weight needs v3 or v3+")
        return self


class PSPNetSpec(_OnEncoder):
    """PSPNet (Zhao 2017, arXiv:1612.01105): means over a pyramid of regions, beside a dilated ResNet's features.

    Attributes
    ----------
    bins : tuple of int
        Regions per axis, on each level of the pyramid.
    head_features : int
        Of the convolution that reads all; published: 512.
    auxiliary_weight : float
        Share in the loss of scores taken from the last map but one, in training; 0 is without.
    """

    kind: Literal["pspnet"] = "pspnet"
    encoder: ResNetSpec
    bins: tuple[Count, ...] = Field(default=(1, 2, 3, 6), min_length=1)
    head_features: Count = 512
    dropout: Share = 0.1
    auxiliary_weight: NonNegative = 0.4

    @property
    def in_words(self) -> str:
        """What a person is told of it."""
        return self._on("PSPNet")


def with_kind(value: Any) -> Any:
    """Return a mapping without a kind as one of a U-Net: once there was no other."""
    return {"kind": "unet"} | value if isinstance(value, dict) else value


NetworkSpec = Annotated[
    UNetSpec | ClassicUNetSpec | FCNSpec | DeepLabSpec | PSPNetSpec | SegResNetSpec | SwinUNETRSpec | MedNeXtSpec,
    Field(discriminator="kind"),
    BeforeValidator(with_kind),
]


def smallest_batch(network: NetworkSpec) -> int:
    """Return how many patches a step needs: batch norm of one image's mean has nothing to average.

    Examples
    --------
    >>> from medseg.plan.encoder import published_strides
    >>> norms = ("batch", "instance")
    >>> encoders = [ResNetSpec(strides=published_strides(2, 8), norm=norm) for norm in norms]
    >>> [smallest_batch(DeepLabSpec(dimensions=2, encoder=encoder)) for encoder in encoders]
    [2, 1]
    """
    match network:
        case DeepLabSpec(version="v3" | "v3+") | PSPNetSpec():
            return 2 if network.encoder.norm == "batch" else 1
        case _:
            return 1

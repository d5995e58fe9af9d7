"""The fully connected CRF by mean-field inference, after any network: every pair of voxels is an edge.

The model is that of Krähenbühl and Koltun 2011 (arXiv:1210.5644), as DeepLab v1 and v2 use it (Chen 2015,
arXiv:1412.7062), with distances in millimetres. Voxels i and j of the same class attract each other by

    k(i, j) = w_s exp(-|p_i - p_j|² / 2 σ_γ²) + w_a exp(-|p_i - p_j|² / 2 σ_α² - |I_i - I_j|² / 2 σ_β²)

with positions p in mm and the image's channels I: Potts compatibility. Each kernel is divided by the roots of its two
voxels' row sums, the voxel itself included (the symmetric normalisation of Krähenbühl and Koltun 2013, ICML): weights
then mean the same at any spacing, and a voxel unlike all others is left alone. A voxel sends itself no message.

What is exact and what is not: the smoothness kernel's sums are exact, by a matrix product along each axis. Those of the
appearance kernel are approximated by the permutohedral lattice (`medseg.networks.permutohedral`); docs/crf.md has the
errors against the sum over all pairs.

A class's messages depend on its own beliefs alone, and a voxel's softmax on its own scores alone. So messages go some
classes at a time and the softmax some voxels at a time, and scores that are large may lie in files (`medseg.scratch`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from medseg import scratch
from medseg.errors import GeometryError, InputError
from medseg.networks.permutohedral import Permutohedral
from medseg.progress import Step, ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from medseg.plan import CrfPlan
    from medseg.progress import Progress

    Messages = Callable[[Tensor], Tensor]

AT_ONCE_BYTES = 1 << 26
"""Scores of whole classes, at least one, that messages are sent of at once; and of voxels in one softmax."""


def mean_field(  # noqa: PLR0913 - the model's inputs, and how to go about it
    logits_kzyx: Tensor,
    image_czyx: Tensor,
    plan: CrfPlan,
    *,
    spacing_mm: Sequence[float],
    slice_axis: int | None = None,
    progress: Progress = ignore,
    out: NDArray[Any] | None = None,
) -> Tensor:
    """Return log-probabilities (K, Z, Y, X) refined by a fully connected CRF.

    Parameters
    ----------
    logits_kzyx : (K, Z, Y, X) float32 or float64
        Scores of K classes; also log-probabilities. An axis of one voxel counts for nothing: one slice is the 2-D CRF.
    image_czyx : (C, Z, Y, X) float
        The normalised image on the same grid.
    plan : CrfPlan
        The kernels and the number of iterations.
    spacing_mm : (3,) float
        Distance of voxels along (Z, Y, X), mm.
    slice_axis : int, optional
        The axis whose slices know nothing of each other, as for a 2-D network; by default there is none.
    progress : Progress
        Told stage ``crf`` before each iteration, on each slice where there is a slice axis; raises to stop.
    out : (K, Z, Y, X) of the type of `logits_kzyx`, optional
        Written into and returned as a tensor, such as an array of `medseg.scratch`; scores on the way then lie in a
        temporary file. May be the memory of `logits_kzyx` itself. The numbers are the same.

    Returns
    -------
    Tensor
        Of the type of `logits_kzyx`, a new one unless there is `out`; its exponentials sum to one at every voxel.
        Without weights, the logarithm of the softmax.

    Raises
    ------
    InputError
        Where shapes do not agree, values are not finite floating-point numbers of a type above, or the disk is full.
    GeometryError
        Where the spacing is not three lengths.

    Examples
    --------
    One voxel of doubt in a dark half goes with its own half:

    >>> from medseg.plan import CrfPlan
    >>> image = torch.zeros(1, 1, 6, 6)
    >>> image[..., 3:] = 1.0
    >>> logits = torch.cat([1 - 2 * image, 2 * image - 1])
    >>> logits[:, 0, 2, 1] = torch.tensor([-0.2, 0.2])
    >>> refined = mean_field(logits, image, CrfPlan(), spacing_mm=(1.0, 1.0, 1.0))
    >>> bool((refined.argmax(dim=0) == image[0]).all())
    True
    """
    _require_fitting(logits_kzyx, image_czyx, spacing_mm, out)
    logits_kzyx, image_czyx = logits_kzyx.detach(), image_czyx.detach().to(logits_kzyx)
    refined = _Store.like(logits_kzyx) if out is None else _Store.of(out)
    _require_finite(_Store(logits_kzyx, out), "logits")
    _require_finite(_Store(image_czyx), "image")
    if slice_axis is None:
        _refine(logits_kzyx, image_czyx, plan, spacing_mm=spacing_mm, progress=progress, into=refined)
        return refined.values
    slices = logits_kzyx.shape[1 + slice_axis]
    for i in range(slices):
        one = (slice(None),) * (1 + slice_axis) + (slice(i, i + 1),)
        watched = _watched(progress, before=i * plan.iterations, total=slices * plan.iterations)
        alone = _Store.like(logits_kzyx[one])
        _refine(logits_kzyx[one], image_czyx[one], plan, spacing_mm=spacing_mm, progress=watched, into=alone)
        refined.values[one] = alone.values
        refined.let_go()
    return refined.values


class _Store(NamedTuple):
    """Scores of all classes; `array` where they lie in a file, or may."""

    values: Tensor
    array: NDArray[Any] | None = None

    @classmethod
    def of(cls, array_kzyx: NDArray[Any]) -> _Store:
        return cls(torch.from_numpy(array_kzyx), array_kzyx)

    @classmethod
    def like(cls, logits_kzyx: Tensor) -> _Store:
        return cls(torch.empty(logits_kzyx.shape, dtype=logits_kzyx.dtype, device=logits_kzyx.device))

    def beside(self) -> _Store:
        """Return another one of the kind."""
        return (
            self.like(self.values) if self.array is None else self.of(scratch.empty(self.array.shape, self.array.dtype))
        )

    def let_go(self) -> None:
        if self.array is not None:
            scratch.let_go(self.array)

    def take(self, function: Callable[..., Tensor], other: _Store) -> None:
        """Hold a function along the classes of scores, which may be the store's own, some voxels at a time."""
        source, target = other.values.flatten(1), self.values.view(len(self.values), -1)
        step = max(1, AT_ONCE_BYTES // (len(source) * source.element_size()))
        for start in range(0, source.shape[1], step):
            part = slice(start, start + step)
            target[:, part] = function(source[:, part], dim=0)
            self.let_go()
            other.let_go()


def _refine(
    logits_kzyx: Tensor,
    image_czyx: Tensor,
    plan: CrfPlan,
    *,
    spacing_mm: Sequence[float],
    progress: Progress,
    into: _Store,
) -> None:
    """Find log-probabilities by the iterations of Algorithm 1 of the paper, all voxels at once."""
    unary = into.beside()
    unary.take(torch.log_softmax, _Store(logits_kzyx, into.array))  # from here on `into` may lose the logits
    kernels: list[Messages] = []
    progress(Step("crf", 0, plan.iterations))
    if plan.smoothness_weight:
        kernels.append(_smoothness(unary.values, plan, spacing_mm))
    if plan.appearance_weight:
        kernels.append(_appearance(image_czyx, plan, spacing_mm))
    scores = unary
    for i in range(plan.iterations if kernels else 0):
        if i:
            progress(Step("crf", i, plan.iterations))
        into.take(torch.softmax, scores)  # beliefs, in the place of the scores they follow from
        _exchange(into, unary, kernels)
        scores = into
    progress(Step("crf", plan.iterations, plan.iterations))
    into.take(torch.log_softmax, scores)


def _exchange(beliefs: _Store, unary: _Store, kernels: Sequence[Messages]) -> None:
    """Put in the place of beliefs the scores that follow from everyone's messages, some classes at a time."""
    step = max(1, AT_ONCE_BYTES // (unary.values[0].numel() * unary.values.element_size()))
    for start in range(0, len(unary.values), step):
        classes = slice(start, start + step)
        scores = unary.values[classes].clone()
        for messages in kernels:
            scores += messages(beliefs.values[classes])
        beliefs.values[classes] = scores
        for store in (beliefs, unary):
            store.let_go()


def _smoothness(like_kzyx: Tensor, plan: CrfPlan, spacing_mm: Sequence[float]) -> Messages:
    """Return what sends the smoothness kernel's messages: exact, as a Gaussian is a product over axes."""
    kernels = [
        _gaussian(n, step / plan.smoothness_sigma_mm).to(like_kzyx)
        for n, step in zip(like_kzyx.shape[1:], spacing_mm, strict=True)
    ]
    sums = [kernel.sum(dim=1) for kernel in kernels]
    scale = torch.einsum("z,y,x->zyx", *sums).rsqrt_()

    def messages(beliefs_kzyx: Tensor) -> Tensor:
        scaled = beliefs_kzyx * scale
        return _along_axes(scaled, kernels).sub_(scaled).mul_(scale).mul_(plan.smoothness_weight)

    return messages


def _gaussian(size: int, step: float) -> Tensor:
    """Return the kernel between all pairs of `size` places, `step` standard deviations apart, (size, size) float64."""
    places = torch.arange(size, dtype=torch.float64) * step
    return torch.exp(-0.5 * (places[:, None] - places) ** 2)


def _along_axes(values_kzyx: Tensor, kernels: Sequence[Tensor]) -> Tensor:
    """Return values multiplied along each axis by its symmetric matrix."""
    kernel_z, kernel_y, kernel_x = kernels
    found = kernel_y @ (values_kzyx @ kernel_x)
    return (kernel_z @ found.flatten(2)).view_as(found)


def _appearance(image_czyx: Tensor, plan: CrfPlan, spacing_mm: Sequence[float]) -> Messages:
    """Return what sends the appearance kernel's messages, by the permutohedral lattice."""
    lattice = Permutohedral.around(_features(image_czyx, plan, spacing_mm))
    own = lattice.own()[:, None]
    others = lattice.summed(torch.ones_like(own)) - own
    scale = (1 + others.clamp_(min=0)).rsqrt_()

    def messages(beliefs_kzyx: Tensor) -> Tensor:
        scaled = beliefs_kzyx.flatten(1).T * scale
        sent = lattice.summed(scaled).addcmul_(own, scaled, value=-1).mul_(scale).mul_(plan.appearance_weight)
        return sent.T.reshape(beliefs_kzyx.shape)

    return messages


def _features(image_czyx: Tensor, plan: CrfPlan, spacing_mm: Sequence[float]) -> Tensor:
    """Return positions and intensities of all voxels in standard deviations, (D, N); without axes of one voxel."""
    shape = image_czyx.shape[1:]
    long = [axis for axis in range(3) if shape[axis] > 1]
    features = torch.empty(len(long) + len(image_czyx), *shape, dtype=image_czyx.dtype, device=image_czyx.device)
    for row, axis in zip(features, long, strict=False):
        places = torch.arange(shape[axis], dtype=torch.float64) * (spacing_mm[axis] / plan.appearance_sigma_mm)
        row.copy_(places.reshape([-1 if a == axis else 1 for a in range(3)]))
    torch.div(image_czyx, plan.appearance_sigma_intensity, out=features[len(long) :])
    return features.flatten(1)


def _watched(progress: Progress, *, before: int, total: int) -> Progress:
    """Return a `Progress` for one slice of several."""

    def report(step: Step, /) -> None:
        progress(Step(step.stage, before + step.done, total))

    return report


def _require_fitting(
    logits_kzyx: Tensor, image_czyx: Tensor, spacing_mm: Sequence[float], out: NDArray[Any] | None
) -> None:
    """Refuse what the CRF cannot be computed on."""
    if logits_kzyx.ndim != 4 or image_czyx.ndim != 4 or logits_kzyx.shape[1:] != image_czyx.shape[1:]:
        raise InputError(
            f"logits of shape {tuple(logits_kzyx.shape)} and an image of shape {tuple(image_czyx.shape)}",
            expected="(classes, Z, Y, X) and (channels, Z, Y, X) on the same grid",
        )
    if not logits_kzyx.numel() or not image_czyx.numel():
        raise InputError("there is no voxel, class or channel to refine", expected="at least one of each")
    if logits_kzyx.dtype not in {torch.float32, torch.float64}:
        kind = str(logits_kzyx.dtype).removeprefix("torch.")
        raise InputError(f"the logits are {kind}", expected="float32 or float64", remedy="Convert them with .float()")
    if not image_czyx.is_floating_point():
        kind = str(image_czyx.dtype).removeprefix("torch.")
        raise InputError(f"the image is {kind}", expected="floating-point, normalised intensities")
    kind = str(logits_kzyx.dtype).removeprefix("torch.")
    if out is not None and (out.shape != logits_kzyx.shape or out.dtype != kind or not out.flags.c_contiguous):
        raise InputError("the array to write to is another than the logits'", expected="the same shape and type, whole")
    if len(spacing_mm) != 3 or not all(0 < step < float("inf") for step in spacing_mm):
        raise GeometryError(f"the spacing is {tuple(spacing_mm)}", expected="three lengths in mm, above zero")


def _require_finite(scores: _Store, name: str) -> None:
    for part in scores.values:
        if not bool(part.isfinite().all()):
            raise InputError(f"the {name} of the CRF holds NaN or infinity", expected="finite numbers")
        scores.let_go()

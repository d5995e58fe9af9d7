"""The deep object at the rim: load a model folder once, segment volume after volume.

`Segmenter.segment` takes a scan on any grid and returns a mask on that same grid. In between: the plan's working grid
and intensities (`medseg.preprocess`), the streamed sliding window (`medseg.tiling`), a CRF where the plan has one
(`medseg.networks.crf`), the way back, and tidying. Image, scores and mask go by slices: what is in memory beside the
scan and its mask does not grow with their number (but for a CRF, which sees all voxels at once).
The members of an ensemble are averaged as logits, window by window, as nnU-Net does.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from medseg import postprocess
from medseg.errors import ModelError
from medseg.geometry import Box
from medseg.inference import memory
from medseg.inference.backends import as_backend
from medseg.inference.clock import Clock
from medseg.inference.confidence import Confidence
from medseg.inference.memory import peak_ram_mb
from medseg.inference.opening import Asked, open_model
from medseg.inference.sparing import Sparing
from medseg.networks.crf import mean_field
from medseg.plan import CrfRecipe
from medseg.preprocess import Probabilities, Restoration, WorkingImage, nearest_slices
from medseg.progress import Step, ignore
from medseg.tiling import SLAB_BYTES, Slab, Tiling, stream_logits
from medseg.volume import Segmentation, Volume, id_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from medseg.geometry import Geometry
    from medseg.inference.backends import Backend
    from medseg.inference.hardware import NumericPath
    from medseg.labels import LabelSet
    from medseg.model import Model
    from medseg.plan import Plan
    from medseg.progress import Progress

FASTER = 1.5
"""How much coarser the grid of ``--fast`` is along each axis: about a third of the windows in 3-D."""

Flag = Literal["empty", "touches-edge"]
"""``empty``: no voxel was labelled. ``touches-edge``: a label reaches the scan's outermost voxels, so it may be cut."""


@dataclass(frozen=True, slots=True)
class Result:
    """What segmenting one scan gave.

    Attributes
    ----------
    segmentation : Segmentation
        The mask on the scan's own grid.
    confidence : float or None
        Mean over the predicted foreground (on the network's grid, before tidying) of the largest softmax probability;
        None where nothing was predicted. Uncalibrated unless the model's card says otherwise.
    flags : tuple of Flag
        What a person should look at.
    seconds : dict
        Wall time of the steps ``prepare``, ``network``, ``crf`` where there is one, ``restore``.
    peak_ram_mb : float
        The most memory this process held resident so far, in 10^6 bytes.
    """

    segmentation: Segmentation
    confidence: float | None
    flags: tuple[Flag, ...]
    seconds: dict[str, float]
    peak_ram_mb: float


class Segmenter:
    """Networks in memory, ready for any number of scans.

    Parameters
    ----------
    plan : Plan
        What the networks were trained by.
    networks : sequence of Module or Backend
        Ensemble members: PyTorch networks in evaluation mode, on the device and of the type `path` says, or exported
        ones (`medseg.inference.backends`). They are not changed.
    path : NumericPath
        How to compute.
    model : Model, optional
        The folder the networks come from.
    mirrored : bool
        Whether each window is also predicted mirrored along the plan's `infer.mirror_axes` (``--tta``).
    max_ram : int, optional
        Bytes of memory that the process and its children may hold; by default what is free.
    """

    def __init__(
        self,
        plan: Plan,
        networks: Sequence[nn.Module | Backend],
        *,
        path: NumericPath,
        model: Model | None = None,
        mirrored: bool = False,
        max_ram: int | None = None,
    ) -> None:
        if not networks:
            raise ModelError("there is no network to segment with", expected="at least one ensemble member")
        self.plan = plan
        self.path = path
        self.model = model
        self.max_ram = max_ram
        self._members = tuple(as_backend(n, path, dimensions=plan.network.dimensions) for n in networks)
        self._sparing = Sparing(self._predict, path.device)
        self._tiling = Tiling(
            plan.train.patch_size,
            classes=len(plan.labels) + 1,
            overlap=plan.infer.overlap,
            batch=path.window_batch,
            mirror_axes=plan.infer.mirror_axes if mirrored else (),
            slice_axis=plan.slice_axis,
            style=plan.infer.windows,
        )

    @property
    def is_mirrored(self) -> bool:
        """Whether windows are also predicted mirrored: asked for, and the plan has axes that may be."""
        return bool(self._tiling.mirror_axes)

    @property
    def is_fast(self) -> bool:
        """Whether scans are seen on a coarser grid than the model's."""
        return self.model is not None and self.plan.preprocess != self.model.plan.preprocess

    @classmethod
    def load(  # noqa: PLR0913 - at the rim; each is a choice of its own
        cls,
        folder: Path | str,
        *,
        device: str = "auto",
        precision: str = "auto",
        backend: str = "auto",
        mirrored: bool = False,
        path: NumericPath | None = None,
        members: Sequence[int] | None = None,
    ) -> Segmenter:
        """Return the segmenter of a model folder or an exported one, verified and with its weights in memory.

        Parameters
        ----------
        folder : Path or str
            A model folder, as training leaves it, or what `medseg export` made of one.
        device : {"auto", "cpu", "cuda", "cuda:N"}
            Where to compute.
        precision : {"auto", "fp32", "bf16"}
            ``auto`` is what the plan says, and where it says nothing, bf16 where hardware and backend have it.
        backend : {"auto", "torch", "onnx", "openvino"}
            What runs the networks; see `medseg.inference.opening.open_model`.
        mirrored : bool
            See `Segmenter`.
        path : NumericPath, optional
            The whole choice, where it was made before; overrides `device`, `precision` and `backend`.
        members : sequence of int, optional
            The folds to use; by default all of the model.

        Raises
        ------
        ModelError
            Where the folder is damaged, or device, precision or backend are not to be had.
        MissingExtraError
            Where the backend's library is not installed.
        """
        opened = open_model(Path(folder), Asked(device, precision, backend, path, members))
        return cls(opened.model.plan, opened.members, path=opened.path, model=opened.model, mirrored=mirrored)

    def with_crf(self, *, on: bool) -> Segmenter:
        """Return a segmenter of the same networks with a CRF, by the plan's values or else the defaults, or without.

        Parameters
        ----------
        on : bool
            What the plan of the returned segmenter says, whatever this one's does.
        """
        kinds = [channel.kind for channel in self.plan.preprocess.normalisation]
        crf = (self.plan.infer.crf or CrfRecipe().resolved(kinds)) if on else None
        plan = self.plan.model_copy(update={"infer": self.plan.infer.model_copy(update={"crf": crf})})
        return self._like(plan=plan)

    def fast(self) -> Segmenter:
        """Return a segmenter of the same networks that sees scans on a grid `FASTER` times as coarse (``--fast``).

        What the networks see is then that much smaller than in training, so masks are worse. Slices of a 2-D network
        stay as far apart as they are.
        """
        z, y, x = (
            mm if axis == self.plan.slice_axis else FASTER * mm
            for axis, mm in enumerate(self.plan.preprocess.spacing_mm)
        )
        coarse = self.plan.preprocess.model_copy(update={"spacing_mm": (z, y, x)})
        return self._like(plan=self.plan.model_copy(update={"preprocess": coarse}))

    def with_max_ram(self, max_ram: int | None) -> Segmenter:
        """Return a segmenter of the same networks with another limit of memory, in bytes (``--max-ram``)."""
        return self._like(max_ram=max_ram)

    def _like(self, **changes: Any) -> Segmenter:
        kept = {"path": self.path, "model": self.model, "mirrored": self.is_mirrored, "max_ram": self.max_ram}
        return Segmenter(changes.pop("plan", self.plan), self._members, **(kept | changes))

    def segment(
        self,
        volume: Volume,
        *,
        region: Box | None = None,
        progress: Progress | None = None,
        on_slab: Callable[[Segmentation], None] | None = None,
    ) -> Result:
        """Return the mask of a scan, on the scan's grid.

        Parameters
        ----------
        volume : Volume
            The scan, one channel per channel of the plan, on any grid.
        region : Box, optional
            Where to segment, in the scan's voxels; outside the mask is background. Intensities are normalised by the
            whole scan, and the network (and the CRF) sees half a patch around the region.
        progress : Progress, optional
            Told the stages ``prepare`` (with how the scan fits into memory), ``network`` (per batch of windows),
            ``crf`` (per iteration) and ``restore``; raises `Cancelled` to stop.
        on_slab : callable, optional
            Called with finished slices as they come: a mask on its own part of the network's grid, not yet tidied,
            and before the CRF.

        Raises
        ------
        InputError
            Where the scan has another number of channels than the model, a voxel is not a finite number (code
            ``non-finite``), or the scan does not fit into the memory allowed (code ``memory``).
        ModelError
            Where the device's memory is too small.
        GeometryError
            Where the region leaves the scan.
        """
        report, clock = progress or ignore, Clock()
        target = volume.geometry.crop(region) if region else volume.geometry
        with clock("prepare"):
            image = self._image(volume, target if region else None, report)
        labels = self.plan.labels
        mask = np.zeros(volume.geometry.shape, dtype=id_type(labels))
        slabs, grid = self._in_slices_of(target, image, self._scores(image, clock, report, on_slab))
        restoration = Restoration(grid, target, labels, out=mask[region.slices] if region else mask)
        confidence = Confidence()
        for _, logits in slabs:
            with clock("restore"):
                confidence.add(logits, restoration.add(logits))
        with clock("restore"):
            report(Step("restore"))
            segmentation = postprocess.apply(
                Segmentation(mask, volume.geometry, labels), postprocess.PostprocessPlan.of(self.plan.infer)
            )
        return Result(segmentation, confidence.mean, _flags(segmentation.array), clock.seconds, peak_ram_mb())

    def probabilities(self, volume: Volume, *, progress: Progress | None = None) -> Volume:
        """Return each class's probability at each voxel of a scan, float32 on the scan's grid.

        Logits are interpolated onto the scan's grid and the softmax taken there, so probabilities sum to one. The
        channels are ``background`` and the labels by rising id. Where the plan has a CRF they are what it gives.
        Nothing is tidied. The array lies in a temporary file, which goes when it is let go of.

        Raises
        ------
        ModelError, InputError
            As `segment`.
        """
        report, clock = progress or ignore, Clock()
        image = self._image(volume, None, report)
        names = ("background", *self.plan.labels.names)
        with tempfile.TemporaryFile() as file:
            array = np.memmap(file, dtype=np.float32, mode="w+", shape=(len(names), *volume.geometry.shape))
        slabs, grid = self._in_slices_of(volume.geometry, image, self._scores(image, clock, report, None))
        is_cropped = self.plan.preprocess.scan_first is not None
        probabilities = Probabilities(grid, volume.geometry, array, is_cropped=is_cropped)
        for _, logits in slabs:
            probabilities.add(logits)
        report(Step("restore"))
        return Volume(array, volume.geometry, names)

    def _image(self, volume: Volume, target: Geometry | None, report: Progress) -> WorkingImage:
        """Return the scan on the working grid, cut to half a patch around `target` where there is one."""
        how = memory.fit(volume, self.plan, self.path, max_ram=self.max_ram)
        report(Step("prepare", message=how.in_words))
        image = WorkingImage(volume, self.plan, held=not how.is_split)
        if target is None:
            return image
        return image.cropped(_box_around(target, image.geometry, margin=[n // 2 for n in self.plan.train.patch_size]))

    def _in_slices_of(
        self, onto: Geometry, image: WorkingImage, slabs: Iterator[Slab]
    ) -> tuple[Iterator[tuple[int, Tensor]], Geometry]:
        """Return the scores and their grid, in the scan's own slices where the plan takes these apart."""
        slices = nearest_slices(image.geometry, onto, self.plan)
        return (slabs, image.geometry) if slices is None else (slices.through(slabs), slices.geometry)

    def _scores(
        self,
        image: WorkingImage,
        clock: Clock,
        report: Progress,
        on_slab: Callable[[Segmentation], None] | None,
    ) -> Iterator[Slab]:
        """Yield slabs of the scores that decide, in rising order: the network's, or the CRF's where there is one."""
        slabs = stream_logits(self._sparing, _Timed(image, clock), tiling=self._tiling, progress=report)
        slabs = clock.each("network", slabs)
        if on_slab is not None:
            slabs = _told(slabs, on_slab, image.geometry, self.plan.labels)
        if self.plan.infer.crf is None:
            yield from slabs
            return
        logits = torch.empty(len(self.plan.labels) + 1, *image.geometry.shape)
        for start, part in slabs:
            logits[:, start : start + part.shape[1]] = part
        with clock("crf"):
            refined = mean_field(
                logits,
                image.whole(),
                self.plan.infer.crf,
                spacing_mm=image.geometry.spacing_mm,
                slice_axis=self.plan.slice_axis,
                progress=report,
            )
        del logits
        depth = max(1, SLAB_BYTES // refined[:, 0].nbytes)
        for start in range(0, refined.shape[1], depth):
            yield Slab(start, refined[:, start : start + depth])

    def _predict(self, windows: Tensor) -> Tensor:
        """Return the members' mean logits of a batch of windows, float32."""
        with torch.inference_mode():
            total = self._members[0](windows)
            for member in self._members[1:]:
                total += member(windows)
            return total if len(self._members) == 1 else total / len(self._members)


class _Timed:
    """An image whose making counts as preparing."""

    def __init__(self, image: WorkingImage, clock: Clock) -> None:
        self._image, self._clock = image, clock
        self.shape: tuple[int, ...] = image.shape

    def slices(self, start: int, stop: int) -> Tensor:
        with self._clock("prepare"):
            return self._image.slices(start, stop)


def _box_around(target: Geometry, working: Geometry, *, margin: Sequence[int]) -> Box:
    """Return the working grid's voxels that cover `target` and `margin` more, as far as there are any."""
    faces = [[-0.5, n - 0.5] for n in target.shape]
    corners = working.to_index(target.to_lps(np.stack(np.meshgrid(*faces, indexing="ij"), axis=-1).reshape(-1, 3)))
    low = np.floor(corners.min(axis=0)).astype(int) - np.array(margin)
    high = np.ceil(corners.max(axis=0)).astype(int) + np.array(margin) + 1
    z, y, x = (
        (max(0, min(int(a), n - 1)), max(1, min(int(b), n))) for a, b, n in zip(low, high, working.shape, strict=True)
    )
    return Box((z[0], y[0], x[0]), (z[1], y[1], x[1]))


def _told(
    slabs: Iterator[Slab], on_slab: Callable[[Segmentation], None], working: Geometry, labels: LabelSet
) -> Iterator[Slab]:
    """Yield the slabs, each after its mask was told."""
    ids = np.array([0, *labels.ids], dtype=id_type(labels))
    _, y, x = working.shape
    for slab in slabs:
        winners = slab.logits_kzyx.argmax(dim=0).numpy()
        geometry = working.crop(Box((slab.start, 0, 0), (slab.start + len(winners), y, x)))
        on_slab(Segmentation(ids[winners], geometry, labels))
        yield slab


def _flags(mask_zyx: NDArray[Any]) -> tuple[Flag, ...]:
    if not mask_zyx.any():
        return ("empty",)
    outer = (np.take(mask_zyx, end, axis=axis) for axis in range(3) if mask_zyx.shape[axis] > 1 for end in (0, -1))
    return ("touches-edge",) if any(face.any() for face in outer) else ()

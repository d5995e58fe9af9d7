"""The deep object at the rim: load a model folder once, segment volume after volume.

`Segmenter.segment` takes a scan on any grid and returns a mask on that same grid. In between: the plan's working grid
and intensities (`medseg.preprocess`), the streamed sliding window (`medseg.tiling`), a CRF where the plan has one
(`medseg.networks.crf`), the way back, and tidying. Image, scores and mask go by slices: what is in memory beside the
scan and its mask does not grow with their number (but for a CRF, which sees all voxels at once).
The members of an ensemble are averaged as logits, window by window, as nnU-Net does.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medseg import postprocess
from medseg.errors import ModelError
from medseg.geometry import Box
from medseg.inference import memory
from medseg.inference.backends import as_backend
from medseg.inference.clock import Clock, TimedImage
from medseg.inference.confidence import Confidence
from medseg.inference.maps import Maps, certain_background, require_known
from medseg.inference.memory import peak_ram_mb
from medseg.inference.opening import Asked, open_model
from medseg.inference.refining import refined
from medseg.inference.region import COARSER, Extent, Found, Look, Sight, Within, find_region, seen_box
from medseg.inference.result import Result, flags_of
from medseg.inference.sparing import Sparing
from medseg.plan import CrfRecipe
from medseg.preprocess import Restoration, WorkingImage, nearest_slices
from medseg.progress import Step, ignore
from medseg.tiling import Slab, Tiling, stream_logits
from medseg.volume import Segmentation, Volume, id_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from medseg.geometry import Geometry
    from medseg.inference.backends import Backend
    from medseg.inference.hardware import NumericPath
    from medseg.inference.maps import MapName
    from medseg.labels import LabelSet
    from medseg.model import Model
    from medseg.plan import Plan
    from medseg.progress import Progress
    from medseg.tiling import Zeros

FASTER = 1.5
"""How much coarser the grid of ``--fast`` is along each axis: about a third of the windows in 3-D."""


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
        self.sight = Sight()
        self._members = tuple(as_backend(n, path, dimensions=plan.network.dimensions) for n in networks)
        self._sparing = Sparing(self._predict, path.device)
        self.tiling = Tiling(
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
        return bool(self.tiling.mirror_axes)

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
        return self._coarser(FASTER)

    def rough(self) -> Segmenter:
        """Return a segmenter of the same networks for a first pass: on a grid `COARSER` times as coarse as the model's.

        It looks at whole scans, once (not mirrored), and has no CRF.
        """
        return self._coarser(COARSER).with_crf(on=False)._like(mirrored=False, sight=Sight())

    def looking_at(self, look: Look) -> Segmenter:
        """Return a segmenter of the same networks that looks at a part of each scan (``--look``).

        Parameters
        ----------
        look : {"whole", "body", "coarse"}
            At the whole scan; at the body's box; or where a first pass on a coarse grid finds something. See
            `medseg.inference.region`.
        """
        return self._like(sight=replace(self.sight, look=look))

    def looking_within(self, other: Segmenter, names: Sequence[str] = ()) -> Segmenter:
        """Return a segmenter of the same networks that looks within the box of what another finds (``--within``).

        Parameters
        ----------
        other : Segmenter
            Another model; where it looks itself is up to it (`looking_at`).
        names : sequence of str
            Its labels that count; all without any.

        Raises
        ------
        ModelError
            Where it has no such label, or takes a channel that this one does not.
        """
        within = Within.of(other, names, channels=self.plan.channels)
        return self._like(sight=Sight(other.sight.look, within))

    def _coarser(self, times: float) -> Segmenter:
        own = self.model.plan if self.model is not None else self.plan
        z, y, x = (mm if axis == own.slice_axis else times * mm for axis, mm in enumerate(own.preprocess.spacing_mm))
        coarse = self.plan.preprocess.model_copy(update={"spacing_mm": (z, y, x)})
        return self._like(plan=self.plan.model_copy(update={"preprocess": coarse}))

    def with_max_ram(self, max_ram: int | None) -> Segmenter:
        """Return a segmenter of the same networks with another limit of memory, in bytes (``--max-ram``)."""
        return self._like(max_ram=max_ram)

    def _like(self, **changes: Any) -> Segmenter:
        sight = changes.pop("sight", self.sight)
        kept = {"path": self.path, "model": self.model, "mirrored": self.is_mirrored, "max_ram": self.max_ram}
        like = Segmenter(changes.pop("plan", self.plan), self._members, **(kept | changes))
        like.sight = sight
        return like

    def segment(
        self,
        volume: Volume,
        *,
        region: Box | None = None,
        maps: Sequence[MapName] = (),
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
            whole scan, and the network (and the CRF) sees half a patch around the region. By default as `looking_at`
            or `looking_within` say: the whole scan without either.
        maps : sequence of {"uncertainty", "probabilities"}
            What to tell of each voxel beside its label (`medseg.inference.maps`), from the same scores and before
            tidying.
        progress : Progress, optional
            Told the stages ``look`` where a region is to be found, ``prepare`` (with how the scan fits into memory),
            ``network`` (per batch of windows), ``crf`` (per iteration) and ``restore``; raises `Cancelled` to stop.
        on_slab : callable, optional
            Called with finished slices as they come: a mask on its own part of the network's grid, not yet tidied,
            and before the CRF.

        Raises
        ------
        InputError
            Where the scan has another number of channels than the model, a voxel is not a finite number (code
            ``non-finite``), the scan does not fit into the memory allowed (code ``memory``), or temporary files do not
            fit onto the disk (code ``disk``).
        PlanError
            Where a map is not known.
        ModelError
            Where the device's memory is too small.
        GeometryError
            Where the region leaves the scan.
        """
        require_known(maps)
        report, clock, labels = progress or ignore, Clock(), self.plan.labels
        found = Found(region) if region else find_region(self, volume, progress=report)
        region = found.region
        if found.seconds is not None:
            clock.seconds["look"] = found.seconds
        mask = np.zeros(volume.geometry.shape, dtype=id_type(labels))
        if found.is_nowhere:
            nothing, told_of = Segmentation(mask, volume.geometry, labels), certain_background(maps, volume, self.plan)
            return Result(nothing, None, ("empty", "nothing-within"), clock.seconds, peak_ram_mb(), maps=told_of)
        with clock("prepare"):
            image, zeros = self._image(volume, region, report, maps)
        target = volume.geometry.crop(region) if region else volume.geometry
        slabs, grid = self._in_slices_of(target, image, self._scores(image, zeros, clock, report, on_slab))
        restoration = Restoration(grid, target, labels, out=mask[region.slices] if region else mask)
        confidence, told = Confidence(), Maps(maps, grid, volume.geometry, plan=self.plan, region=region)
        for _, logits in slabs:
            with clock("restore"):
                confidence.add(logits, restoration.add(logits))
                told.add(logits)
        with clock("restore"):
            report(Step("restore"))
            tidy = postprocess.PostprocessPlan.of(self.plan.infer)
            segmentation = postprocess.apply(Segmentation(mask, volume.geometry, labels), tidy)
        flags = flags_of(segmentation.array, region)
        return Result(segmentation, confidence.mean, flags, clock.seconds, peak_ram_mb(), region, told.volumes)

    def extent(self, volume: Volume, *, progress: Progress | None = None) -> Geometry | None:
        """Return the part of the network's grid that holds all labels, before tidying; None where there are none.

        Parameters and errors are those of `segment`; nothing is brought back to the scan's grid, which spares time.
        """
        report = progress or ignore
        image, zeros = self._image(volume, None, report, ())
        extent = Extent(image.geometry.shape)
        for start, logits in self._scores(image, zeros, Clock(), report, None):
            extent.add(start, logits.argmax(dim=0).numpy() > 0)
        return None if extent.box is None else image.geometry.crop(extent.box)

    def probabilities(self, volume: Volume, *, progress: Progress | None = None) -> Volume:
        """Return each class's probability at each voxel of a scan, float32 on the scan's grid.

        Logits are interpolated onto the scan's grid and the softmax taken there, so probabilities sum to one. The
        channels are ``background`` and the labels by rising id. Where the plan has a CRF they are what it gives.
        Nothing is tidied, and the whole scan is looked at. The array lies in a temporary file, which goes when it is
        let go of.

        Raises
        ------
        ModelError, InputError
            As `segment`.
        """
        whole = self if self.sight == Sight() else self._like(sight=Sight())
        return whole.segment(volume, maps=("probabilities",), progress=progress).maps["probabilities"]

    def _image(
        self, volume: Volume, region: Box | None, report: Progress, maps: Sequence[MapName]
    ) -> tuple[WorkingImage, Zeros | None]:
        """Return the scan on the working grid, cut to what is seen for a region, and where scores are added up."""
        how = memory.fit(volume, self.plan, self.path, max_ram=self.max_ram, region=region, maps=maps)
        report(Step("prepare", message=how.in_words))
        image = WorkingImage(volume, self.plan, held=not how.is_split)
        zeros = None if how.scores_on is None else partial(self._sparing.zeros, on=how.scores_on)
        if region is None:
            return image, zeros
        return image.cropped(seen_box(volume.geometry.crop(region), image.geometry, self.plan)), zeros

    def _in_slices_of(
        self, onto: Geometry, image: WorkingImage, slabs: Iterator[Slab]
    ) -> tuple[Iterator[tuple[int, Tensor]], Geometry]:
        """Return the scores and their grid, in the scan's own slices where the plan takes these apart."""
        slices = nearest_slices(image.geometry, onto, self.plan)
        return (slabs, image.geometry) if slices is None else (slices.through(slabs), slices.geometry)

    def _scores(
        self,
        image: WorkingImage,
        zeros: Zeros | None,
        clock: Clock,
        report: Progress,
        on_slab: Callable[[Segmentation], None] | None,
    ) -> Iterator[Slab]:
        """Return slabs of the scores that decide, in rising order: the network's, or the CRF's where there is one."""
        seen = TimedImage(image, clock)
        slabs = stream_logits(self._sparing, seen, tiling=self.tiling, progress=report, zeros=zeros)
        slabs = clock.each("network", slabs)
        if on_slab is not None:
            slabs = _told(slabs, on_slab, image.geometry, self.plan.labels)
        crf = self.plan.infer.crf
        return slabs if crf is None else refined(slabs, image, self.plan, crf, clock=clock, progress=report)

    def _predict(self, windows: Tensor) -> Tensor:
        """Return the members' mean logits of a batch of windows, float32."""
        with torch.inference_mode():
            total = self._members[0](windows)
            for member in self._members[1:]:
                total += member(windows)
            return total if len(self._members) == 1 else total / len(self._members)


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

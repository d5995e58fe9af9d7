"""The deep object at the rim: load a model folder once, segment volume after volume.

`Segmenter.segment` takes a scan on any grid and returns a mask on that same grid. In between: the plan's working grid
and intensities (`medseg.preprocess`), the streamed sliding window (`medseg.tiling`), a CRF where the plan has one
(`medseg.networks.crf`), the way back, and tidying.
The members of an ensemble are averaged as logits, window by window, as nnU-Net does.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from medseg import postprocess, preprocess
from medseg.errors import InputError, ModelError
from medseg.geometry import Box
from medseg.inference.hardware import NumericPath, resolve_device, resolve_path
from medseg.model import load_model
from medseg.networks import memory_format
from medseg.networks.crf import mean_field
from medseg.plan import CrfRecipe
from medseg.progress import Step, ignore
from medseg.tiling import Tiling, stream_logits
from medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from medseg.geometry import Geometry
    from medseg.labels import LabelSet
    from medseg.model import Model
    from medseg.plan import CrfPlan, Plan
    from medseg.progress import Progress

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
    networks : sequence of Module
        Ensemble members in evaluation mode, on the device and of the type `path` says. They are not changed.
    path : NumericPath
        How to compute.
    model : Model, optional
        The folder the networks come from.
    mirrored : bool
        Whether each window is also predicted mirrored along the plan's `infer.mirror_axes` (``--tta``).
    """

    def __init__(
        self,
        plan: Plan,
        networks: Sequence[nn.Module],
        *,
        path: NumericPath,
        model: Model | None = None,
        mirrored: bool = False,
    ) -> None:
        if not networks:
            raise ModelError("there is no network to segment with", expected="at least one ensemble member")
        self.plan = plan
        self.path = path
        self.model = model
        self._networks = tuple(networks)
        self._tiling = Tiling(
            plan.train.patch_size,
            classes=len(plan.labels) + 1,
            overlap=plan.infer.overlap,
            batch=path.window_batch,
            mirror_axes=plan.infer.mirror_axes if mirrored else (),
            slice_axis=plan.slice_axis,
            peak=plan.infer.peak,
        )

    @property
    def is_mirrored(self) -> bool:
        """Whether windows are also predicted mirrored: asked for, and the plan has axes that may be."""
        return bool(self._tiling.mirror_axes)

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        device: str = "auto",
        precision: str = "auto",
        mirrored: bool = False,
        path: NumericPath | None = None,
        members: Sequence[int] | None = None,
    ) -> Segmenter:
        """Return the segmenter of a model folder, verified and with its weights in memory.

        Parameters
        ----------
        folder : Path or str
            A model folder, as training leaves it.
        device : {"auto", "cpu", "cuda", "cuda:N"}
            Where to compute.
        precision : {"auto", "fp32", "bf16"}
            ``auto`` is what the plan says, and where that is ``auto``, bf16 where the hardware has it.
        mirrored : bool
            See `Segmenter`.
        path : NumericPath, optional
            The whole choice, where it was made before; overrides `device` and `precision`.
        members : sequence of int, optional
            The folds to use; by default all of the model.

        Raises
        ------
        ModelError
            Where the folder is damaged, or device or precision are not to be had.
        """
        model = load_model(Path(folder))
        precision = model.plan.infer.precision if precision == "auto" else precision
        chosen = path or resolve_path(device, precision, patch_voxels=int(np.prod(model.plan.train.patch_size)))
        resolve_device(chosen.device)
        layout = memory_format(model.plan.network.dimensions)
        networks = [
            model.network(fold).to(device=chosen.device, dtype=chosen.dtype)
            for fold in (model.weights if members is None else members)
        ]
        for network in networks:
            network.to(memory_format=layout)  # type: ignore[call-overload]  # PyTorch has it but does not type it
        return cls(model.plan, networks, path=chosen, model=model, mirrored=mirrored)

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
        return Segmenter(plan, self._networks, path=self.path, model=self.model, mirrored=self.is_mirrored)

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
            Told the stages ``prepare``, ``network`` (per batch of windows), ``crf`` (per iteration) and ``restore``;
            raises `Cancelled` to stop.
        on_slab : callable, optional
            Called with finished slices as they come: a mask on its own part of the network's grid, not yet tidied,
            and before the CRF.

        Raises
        ------
        InputError
            Where the scan has another number of channels than the model, or a voxel is not a finite number (code
            ``non-finite``).
        ModelError
            Where the device's memory is too small.
        GeometryError
            Where the region leaves the scan.
        """
        report = progress or ignore
        seconds: dict[str, float] = {}
        with _timed(seconds, "prepare"):
            report(Step("prepare"))
            target = volume.geometry.crop(region) if region else volume.geometry
            working = self._prepared(volume, target if region else None)
        with _timed(seconds, "network"):
            logits, confidence = self._logits(working, report, on_slab)
        if self.plan.infer.crf is not None:
            with _timed(seconds, "crf"):
                logits, confidence = self._refined(logits, working, self.plan.infer.crf, report)
        del working
        with _timed(seconds, "restore"):
            report(Step("restore"))
            logits = preprocess.in_slices_of(logits, target, self.plan)
            mask = preprocess.restore(logits, target, self.plan.labels)
            del logits
            mask = postprocess.apply(mask, postprocess.PostprocessPlan(self.plan.infer.largest_component))
            mask = _pasted(mask, region, volume.geometry)
        return Result(mask, confidence, _flags(mask.array), seconds, peak_ram_mb())

    def probabilities(self, volume: Volume, *, progress: Progress | None = None) -> Volume:
        """Return each class's probability at each voxel of a scan, float32 on the scan's grid.

        Logits are interpolated onto the scan's grid and the softmax taken there, so probabilities sum to one. The
        channels are ``background`` and the labels by rising id. Where the plan has a CRF they are what it gives.
        Nothing is tidied.

        Raises
        ------
        ModelError, InputError
            As `segment`.
        """
        report = progress or ignore
        report(Step("prepare"))
        working = self._prepared(volume, None)
        logits, _ = self._logits(working, report, None)
        if self.plan.infer.crf is not None:
            logits, _ = self._refined(logits, working, self.plan.infer.crf, report)
        del working
        report(Step("restore"))
        logits = preprocess.in_slices_of(logits, volume.geometry, self.plan)
        restored = preprocess.restore_logits(logits, volume.geometry)
        scores = torch.from_numpy(restored.array)
        probabilities = dataclasses.replace(restored, array=torch.softmax(scores, dim=0).numpy())
        if self.plan.preprocess.scan_first is not None:
            preprocess.background_outside(probabilities, logits.geometry)
        return probabilities

    def _prepared(self, volume: Volume, target: Geometry | None) -> Volume:
        """Return the scan on the working grid, cut to half a patch around `target` where there is one."""
        _require_finite(volume)
        working = preprocess.prepare(volume, self.plan)
        if target is None:
            return working
        box = _box_around(target, working.geometry, margin=[side // 2 for side in self.plan.train.patch_size])
        array = np.ascontiguousarray(working.array[(slice(None), *box.slices)])
        return Volume(array, working.geometry.crop(box), working.channels)

    def _logits(
        self, working: Volume, report: Progress, on_slab: Callable[[Segmentation], None] | None
    ) -> tuple[Volume, float | None]:
        """Return logits on the working grid, and the confidence."""
        names = ("background", *self.plan.labels.names)
        logits = torch.empty(len(names), *working.geometry.shape)
        sure, voxels = 0.0, 0
        image = torch.from_numpy(working.array)
        for start, slab in stream_logits(self._predict, image, tiling=self._tiling, progress=report):
            logits[:, start : start + slab.shape[1]] = slab
            more_sure, more_voxels = _sureness(slab)
            sure, voxels = sure + more_sure, voxels + more_voxels
            if on_slab is not None:
                on_slab(_slab_mask(slab, start, working.geometry, self.plan.labels))
        return Volume(logits.numpy(), working.geometry, names), sure / voxels if voxels else None

    def _refined(self, logits: Volume, working: Volume, crf: CrfPlan, report: Progress) -> tuple[Volume, float | None]:
        """Return log-probabilities on the working grid after the CRF, and the confidence in them."""
        refined = mean_field(
            torch.from_numpy(logits.array),
            torch.from_numpy(working.array),
            crf,
            spacing_mm=working.geometry.spacing_mm,
            slice_axis=self.plan.slice_axis,
            progress=report,
        )
        sure, voxels = _sureness(refined)
        return dataclasses.replace(logits, array=refined.numpy()), sure / voxels if voxels else None

    def _predict(self, windows: Tensor) -> Tensor:
        """Return the members' mean logits of a batch of windows, float32."""
        layout = memory_format(self.plan.network.dimensions)
        try:
            with torch.inference_mode():
                seen = windows.to(self.path.device, self.path.dtype).contiguous(memory_format=layout)
                total: Tensor = self._networks[0](seen).float()
                for network in self._networks[1:]:
                    total += network(seen).float()
                return total / len(self._networks)
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"the memory of {self.path.device} does not hold {len(windows)} windows of this model",
                remedy="Close what else uses the device, or pass --device cpu",
            ) from error


def _require_finite(volume: Volume) -> None:
    if not all(np.isfinite(image_yx).all() for image_zyx in volume.array for image_yx in image_zyx):
        raise InputError(
            "the scan holds voxels that are not finite numbers (NaN or infinity)",
            remedy="Replace them by numbers, and segment the corrected file",
            code="non-finite",
        )


def peak_ram_mb() -> float:
    """Return the most memory this process held resident so far, in 10^6 bytes."""
    if sys.platform == "win32":
        import psutil  # noqa: PLC0415 - needed on this system only

        return float(psutil.Process().memory_info().peak_wset) / 1e6
    status = Path("/proc/self/status")
    if status.exists():  # Linux, whose ru_maxrss begins with what the process that started this one held
        after = status.read_text(encoding="ascii", errors="replace").partition("VmHWM:")[2].split()
        if after:  # some sandboxes do not tell
            return int(after[0]) * 1024 / 1e6
    import resource  # noqa: PLC0415 - not on every system

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - started


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


def _pasted(mask: Segmentation, region: Box | None, onto: Geometry) -> Segmentation:
    """Return the mask of a region inside a mask of the whole scan."""
    if region is None:
        return mask
    array = np.zeros(onto.shape, dtype=mask.array.dtype)
    array[region.slices] = mask.array
    return Segmentation(array, onto, mask.labels)


def _sureness(logits_kzyx: Tensor) -> tuple[float, int]:
    """Return the sum of the largest softmax probability over foreground voxels, and their number."""
    highest, winner = logits_kzyx.max(dim=0)
    foreground = winner > 0
    log_probability = highest[foreground] - logits_kzyx[:, foreground].logsumexp(dim=0)
    return float(log_probability.exp().sum(dtype=torch.float64)), int(foreground.sum())


def _slab_mask(logits_kzyx: Tensor, start: int, working: Geometry, labels: LabelSet) -> Segmentation:
    ids = np.array([0, *labels.ids], dtype=np.uint16)
    _, y, x = working.shape
    geometry = working.crop(Box((start, 0, 0), (start + logits_kzyx.shape[1], y, x)))
    return Segmentation(ids[logits_kzyx.argmax(dim=0).numpy()], geometry, labels)


def _flags(mask_zyx: NDArray[Any]) -> tuple[Flag, ...]:
    if not mask_zyx.any():
        return ("empty",)
    outer = (np.take(mask_zyx, end, axis=axis) for axis in range(3) if mask_zyx.shape[axis] > 1 for end in (0, -1))
    return ("touches-edge",) if any(face.any() for face in outer) else ()

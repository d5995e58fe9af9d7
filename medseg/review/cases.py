"""What is there to review: an output folder of `medseg segment`, or a folder of images beside a folder of masks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.case import split_channel, stem_of
from medseg.datasets import open_dataset, pixel_on_pixel, read_images, with_labels
from medseg.datasets.listing import entries
from medseg.errors import GeometryError, InputError, MedsegError
from medseg.evaluation.pairing import masks_in, named_labels
from medseg.io import describe, is_dicom, read_segmentation, read_volume
from medseg.io.atomic import write_text
from medseg.io.dicom import Repairs, inspect_files, read_series
from medseg.resample import resample
from medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.labels import LabelSet

MANIFEST = "manifest.json"
REVIEW = "review"
IMAGES = "images.json"
MAX_MANIFEST_BYTES = 256_000_000
_REVIEWABLE = {"done", "skipped"}
AS_IT_IS = Repairs()


@dataclass(frozen=True, slots=True)
class ReviewCase:
    """One scan and the mask to be judged.

    Attributes
    ----------
    id : str
        As in the manifest.
    images : tuple of Path
        The scan's files, in the manifest's order; empty where they were not found.
    mask : Path
        What is under review: version 0.
    labels : LabelSet
        What the mask's values mean; empty where nothing tells.
    confidence : float or None
        The manifest's; ``None`` also where no voxel was labelled.
    flags : tuple of str
        The manifest's.
    model_sha256, mask_sha256 : str
        The manifest's; empty where unknown.
    repairs : Repairs
        How the batch read the scan.
    """

    id: str
    images: tuple[Path, ...]
    mask: Path
    labels: LabelSet
    confidence: float | None = None
    flags: tuple[str, ...] = ()
    model_sha256: str = ""
    mask_sha256: str = ""
    repairs: Repairs = AS_IT_IS

    def read_image(self) -> Volume:
        """Return the scan, every channel on the first one's grid.

        Raises
        ------
        InputError
            Where it is not there or cannot be read.
        """
        if not self.images:
            raise InputError(
                "the scan of the case was not found", where=self.id, remedy="Give its folder: --images FOLDER"
            )
        if is_dicom(self.images[0]) and not self.images[0].is_dir():
            return _series(self.images, self.repairs)
        if len(self.images) == 1 and self.repairs.volume is not None:
            return _one_of_many(self.images[0], self.repairs.volume)
        return read_images(self.images)

    def read_mask(self, onto: Volume) -> Segmentation:
        """Return the mask under review on the scan's own grid.

        Raises
        ------
        InputError, GeometryError
            Where it cannot be read, or lies on another grid: an edit would have no place in the scan.
        """
        mask = read_segmentation(
            self.mask, labels=self.labels if len(self.labels) else None, onto=onto.geometry, image=self._one_image()
        )
        return self.on_scan(mask, onto)

    def on_scan(self, mask: Segmentation, scan: Volume) -> Segmentation:
        """Return a mask of this case that is known to lie on the scan's grid, voxel for voxel.

        Raises
        ------
        GeometryError
            Where it does not.
        """
        mask = pixel_on_pixel(mask, self.mask, scan.geometry)
        if not mask.geometry.same_grid(scan.geometry):
            raise GeometryError(
                f"the mask lies on the grid {mask.geometry}", expected=f"{scan.geometry}, as its scan", where=self.id
            )
        return Segmentation(mask.array, scan.geometry, mask.labels)

    def _one_image(self) -> Path | None:
        return self.images[0] if len(self.images) == 1 else None


def find_cases(folder: Path, images: Sequence[Path] = ()) -> tuple[ReviewCase, ...]:
    """Return the cases of a folder under review; opens no voxel file where the labels are named.

    Parameters
    ----------
    folder : Path
        An output folder of ``medseg segment``, a data set in any layout ``medseg check`` knows, or a folder of masks
        (``<id>.nii.gz``) whose scans lie in `images`.
    images : sequence of Path
        What was given to ``medseg segment`` as INPUT, or a folder of scans of the same names; by default what was given
        last time. It is remembered.

    Raises
    ------
    InputError
        Where there is nothing to review, or no scan is found.

    Examples
    --------
    >>> import tempfile
    >>> find_cases(Path(tempfile.gettempdir()) / "not-there")
    Traceback (most recent call last):
        ...
    medseg.errors.InputError: ...: there is no such folder; expected an output folder of medseg segment.
    """
    if not folder.is_dir():
        raise InputError("there is no such folder", expected="an output folder of medseg segment", where=str(folder))
    roots = tuple(images) or _remembered(folder)
    if (folder / MANIFEST).is_file():
        cases = _segmented(folder, roots)
    elif not roots and (pairs := _data_set(folder)):
        return pairs
    else:
        cases = _masks(folder, roots)
    if not any(case.images for case in cases):
        raise InputError(
            "no scan of the masks was found",
            expected="the INPUT that medseg segment was given" if not roots else "scans of the same names",
            where=str(roots[0] if roots else folder),
            remedy="Say where the scans are: --images FOLDER (once; it is remembered)",
        )
    if images:
        _remember(folder, roots)
    return cases


def mask_elsewhere(case: ReviewCase, folder: Path, scan: Volume) -> Segmentation:
    """Return the mask that another folder holds of a case: a second model's, or another reviewer's.

    Raises
    ------
    InputError
        Where the folder has none of the case's id.
    """
    path = masks_in(folder).get(case.id)
    if path is None:
        raise InputError("the other folder has no mask of the case", where=case.id, remedy="Choose another folder")
    labels = named_labels(folder)
    return read_segmentation(path, labels=labels if len(labels) else case.labels, onto=scan.geometry)


def manifest_of(folder: Path) -> dict[str, Any]:
    """Return the manifest of an output folder, its parts of the expected kind.

    Raises
    ------
    InputError
        Where it cannot be read.
    """
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise InputError(f"the file has {path.stat().st_size} bytes", expected="a manifest", where=str(path))
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError("the manifest cannot be read", where=str(path), remedy="Run medseg segment again") from error
    if not isinstance(document, dict) or not isinstance(document.get("cases"), list):
        raise InputError("the file is no manifest of medseg segment", where=str(path))
    return document


def _segmented(folder: Path, roots: Sequence[Path]) -> tuple[ReviewCase, ...]:
    document = manifest_of(folder)
    model = _text(_part(document, "model"), "sha256")
    repairs = _repairs(_part(_part(document, "options"), "repairs"))
    labels = named_labels(folder)
    masks = masks_in(folder)
    cases = []
    for entry in document["cases"]:
        if not isinstance(entry, dict) or entry.get("status") not in _REVIEWABLE or entry.get("id") not in masks:
            continue
        case, mask = entry["id"], masks[entry["id"]]
        inputs = [name for name in entry.get("inputs") or () if isinstance(name, str)]
        cases.append(
            ReviewCase(
                id=case,
                images=_found(inputs, roots),
                mask=mask,
                labels=labels,
                confidence=_number(entry.get("confidence")),
                flags=tuple(str(flag) for flag in entry.get("flags") or ()),
                model_sha256=model,
                mask_sha256=_hash_of(entry, mask, folder),
                repairs=repairs,
            )
        )
    if not cases:
        raise InputError("no case of the folder is done", where=str(folder), remedy="Run medseg segment first")
    return tuple(cases)


def _masks(folder: Path, roots: Sequence[Path]) -> tuple[ReviewCase, ...]:
    labels = named_labels(folder)
    scans = {key: path for root in reversed(roots) for key, path in _scans_in(root).items()}
    masks = {case: path for case, path in masks_in(folder).items() if case != REVIEW}
    return tuple(ReviewCase(case, scans.get(case, ()), mask, labels) for case, mask in masks.items())


def _data_set(folder: Path) -> tuple[ReviewCase, ...]:
    """Return the cases of a data set; none where the folder is no data set."""
    try:
        dataset = with_labels(open_dataset(folder))
    except MedsegError:
        return ()
    return tuple(
        ReviewCase(case.id, case.images, case.reference, dataset.labels)
        for case in dataset.cases
        if case.reference is not None
    )


def _scans_in(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the scans of a folder by the name a case of theirs has; channels (``_0000``) belong together."""
    found: dict[str, list[Path]] = {}
    for path in entries(root)[0] if root.is_dir() else (root,):
        key = path.name if path.is_dir() else split_channel(stem_of(path.name))[0]
        found.setdefault(key, []).append(path)
    return {key: tuple(sorted(paths)) for key, paths in found.items()}


def _series(files: Sequence[Path], repairs: Repairs) -> Volume:
    """Return the series that DICOM files hold; of several, each is a channel, on the grid of the one named first."""
    found = [item for item in inspect_files(files).items if item.kind in {"series", "image"}]
    place = {path.resolve(): n for n, path in enumerate(files)}
    found.sort(
        key=lambda item: min((place.get((item.root / name).resolve(), len(files)) for name in item.paths), default=0)
    )
    parts = [read_series(item, repairs=repairs) for item in found] or [read_series(list(files), repairs=repairs)]
    onto = [part if part.geometry is parts[0].geometry else resample(part, onto=parts[0].geometry) for part in parts]
    names = tuple(f"{name}_{n}" if len(parts) > 1 else name for n, part in enumerate(parts) for name in part.channels)
    return Volume(np.concatenate([part.array for part in onto]), parts[0].geometry, names)


def _one_of_many(path: Path, volume: int) -> Volume:
    """Return one volume of a 4-D file, as the batch was told; a file that holds one comes as it is."""
    if is_dicom(path):
        return read_volume(path, volume=volume)
    return read_volume(path, volume=volume if describe(path).volumes > 1 else None)


def _repairs(entry: Mapping[str, Any]) -> Repairs:
    """Return what a manifest says of repairs; nothing where it cannot be understood."""
    volume = entry.get("volume")
    return Repairs(
        volume=volume if isinstance(volume, int) and not isinstance(volume, bool) else None,
        on_irregular="resample" if entry.get("on_irregular") == "resample" else "refuse",
        mosaic="split" if entry.get("mosaic") == "split" else "refuse",
        on_nonfinite="fill" if entry.get("on_nonfinite") == "fill" else "refuse",
    )


def _found(inputs: Sequence[str], roots: Sequence[Path]) -> tuple[Path, ...]:
    """Return a case's files under the first root that holds them all; no name leads out of a root."""
    if not inputs or any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in inputs):
        return ()
    for root in roots:
        paths = [root if root.is_file() and root.name == name else root / name for name in inputs]
        if all(path.exists() for path in paths):
            return tuple(paths)
    return ()


def _hash_of(entry: Mapping[str, Any], mask: Path, folder: Path) -> str:
    """Return the hash the manifest has for the output that is the mask."""
    relative = mask.relative_to(folder).as_posix()
    outputs, hashes = _part(entry, "outputs"), _part(entry, "hashes")
    return next((_text(hashes, form) for form, path in outputs.items() if path == relative), "")


def _part(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _remembered(folder: Path) -> tuple[Path, ...]:
    try:
        names = json.loads((folder / REVIEW / IMAGES).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ()
    return tuple(Path(name) for name in names if isinstance(name, str)) if isinstance(names, list) else ()


def _remember(folder: Path, roots: Sequence[Path]) -> None:
    (folder / REVIEW).mkdir(exist_ok=True)
    write_text(folder / REVIEW / IMAGES, json.dumps([str(root.resolve()) for root in roots], indent=1) + "\n")

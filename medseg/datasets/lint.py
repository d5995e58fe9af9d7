"""The lint behind ``medseg check``: every voxel of a data set is looked at, every fact names its file and a remedy."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.datasets.each import for_each
from medseg.datasets.findings import DatasetFinding, DatasetReport, finding
from medseg.datasets.labelling import rules_by_names
from medseg.datasets.layouts import list_dataset
from medseg.datasets.listing import relative
from medseg.datasets.patients import origin_of_case, patient_findings
from medseg.datasets.reading import colour_channels, file_sha256, pixel_on_pixel, read_image, same_place
from medseg.datasets.structures import examine_structures
from medseg.errors import InputError, MedsegError
from medseg.io import describe, is_dicom, read_segmentation, read_volume
from medseg.io.voxels import COLOURS, as_colours
from medseg.progress import ignore
from medseg.volume import values_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from medseg.case import Case
    from medseg.datasets.listing import Listing
    from medseg.geometry import Geometry
    from medseg.io.dicom import Origin
    from medseg.labels import LabelSet
    from medseg.progress import Progress
    from medseg.volume import Segmentation, Volume

OUTLIER = 3.0  # times the median, or its third: a header in other units, a mask of another task
_ORDER = ("error", "warning", "note")


@dataclass(slots=True)
class _Facts:
    """What one case is like, for the comparison of all."""

    case: Case
    findings: list[DatasetFinding] = field(default_factory=list)
    geometry: Geometry | None = None
    channels: tuple[str, ...] = ()
    values: tuple[int, ...] = ()
    structures: tuple[str, ...] = ()
    hashes: tuple[str, ...] = ()
    origin: Origin | None = None
    file: str = ""
    ignored: int = 0
    voxels: int = 0


def check_dataset(path: str | Path, *, progress: Progress = ignore) -> DatasetReport:
    """Look for everything that would harm training, in names, grids and voxels.

    Parameters
    ----------
    path : path
        A data set as `open_dataset` takes it; it need not be sound.
    progress : Progress
        Told after every case.

    Raises
    ------
    InputError
        Where there is no data set at all.
    """
    listing = list_dataset(Path(path))
    facts = for_each(lambda case: _examine(case, listing), listing.cases, stage="check", progress=progress)
    if not listing.cases and not any(found.severity == "error" for found in listing.findings):
        nothing = finding("no-case", "the data set has no image with a mask", "Give the folder or table that has some")
        return DatasetReport(Path(path), listing.layout, 0, (nothing, *listing.findings))
    findings = [*listing.findings, *(found for fact in facts for found in fact.findings)]
    findings += _compared(facts, listing)
    findings.sort(key=lambda found: (_ORDER.index(found.severity), found.file, found.code))
    return DatasetReport(Path(path), listing.layout, len(listing.cases), tuple(findings))


# -- one case ---------------------------------------------------------------------------------------------------------
def _examine(case: Case, listing: Listing) -> _Facts:
    facts = _Facts(case, file=relative(case.images[0], listing.root), origin=origin_of_case(case))
    images = [image for path in case.images if (image := _image(path, facts, listing.root)) is not None]
    if len(images) == len(case.images):
        facts.geometry = images[0].geometry
        images = [as_colours(images[0], listing.channels)] if len(images) == 1 else images
        facts.channels = tuple(name for image in images for name in image.channels)
        facts.findings += _channel_faults(images, facts, listing)
        facts.hashes = tuple(file_sha256(path) for path in case.images)
    if case.reference is not None:
        _examine_mask(case.reference, facts, listing)
    return facts


def _image(path: Path, facts: _Facts, root: Path) -> Volume | None:
    file = relative(path, root)
    try:
        image = read_image(path)
    except MedsegError as error:
        facts.findings.append(_unreadable(error, file, case=facts.case.id))
        return None
    low, high = float(image.array.min()), float(image.array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        message = f"the image {file} holds voxels that are not finite"
        remedy = "Replace NaN and infinite voxels, or take the case out"
        facts.findings.append(finding("non-finite", message, remedy, case=facts.case.id, file=file))
    elif low == high:
        message = f"every voxel of the image {file} is {low:g}"
        facts.findings.append(
            finding("constant-image", message, "Export the image again, or remove it", case=facts.case.id, file=file)
        )
    return image


def _channel_faults(images: Sequence[Volume], facts: _Facts, listing: Listing) -> list[DatasetFinding]:
    faults = []
    for path, image in zip(facts.case.images, images, strict=True):
        if not image.geometry.same_grid(images[0].geometry):
            file = relative(path, listing.root)
            message = f"the channel {file} lies on another grid than {facts.file}"
            remedy = "It will be resampled onto the first channel's grid; make sure the two are in register"
            faults.append(finding("channel-grid", message, remedy, case=facts.case.id, file=file))
    if listing.channels and len(listing.channels) != len(facts.channels):
        message = f"{facts.case.id} has {len(facts.channels)} channels, not the {len(listing.channels)} that were named"
        remedy = "Correct the list of channels, or add the missing ones"
        faults.append(finding("channel-count", message, remedy, case=facts.case.id, file=facts.file))
    return faults


def _examine_mask(path: Path, facts: _Facts, listing: Listing) -> None:
    file, case = relative(path, listing.root), facts.case.id
    mask = _mask(path, facts, listing)
    if mask is None:
        return
    facts.values = tuple(value for value in values_in(mask.array) if value != mask.ignore)
    if mask.ignore is not None:
        facts.ignored, facts.voxels = int(np.count_nonzero(mask.array == mask.ignore)), mask.array.size
    if facts.geometry is not None:
        mask = pixel_on_pixel(mask, path, facts.geometry)
    if facts.geometry is not None and not same_place(mask.geometry, facts.geometry):
        facts.findings.append(_grid_mismatch(mask.geometry, facts, file))
    unknown = sorted(set(facts.values) - {0, *listing.labels.ids})
    if len(listing.labels) and unknown:
        message = f"the mask {file} holds the value {unknown[0]}, which is no label of the data set"
        remedy = "Correct the mask, or name the value among the labels"
        facts.findings.append(finding("unknown-label", message, remedy, case=case, file=file))
    if not facts.values:
        message = f"every voxel of the mask {file} is {mask.ignore}, which is ignored"
        remedy = "Say 'ignore: none' in labels.yaml if it is a label; else take the case out"
        facts.findings.append(finding("only-ignored", message, remedy, case=case, file=file))
    if facts.values == (0,):
        message = f"the mask {file} is empty"
        remedy = "Right if the structure is absent in this case; else draw it, or take the case out"
        facts.findings.append(finding("empty-mask", message, remedy, case=case, file=file))


def _mask(path: Path, facts: _Facts, listing: Listing) -> Segmentation | None:
    file = relative(path, listing.root)
    if is_dicom(path):
        found = examine_structures(facts.case, path, listing.root, onto=facts.geometry, rules=listing.rules)
        facts.structures = found.names
        facts.findings += found.findings
        return found.mask
    try:
        mask = read_segmentation(path, ignore=listing.ignore)
        if describe(path).dtype.startswith("float"):
            message = f"the mask {file} is stored as floating-point numbers, all of them whole"
            facts.findings.append(finding("float-mask", message, "Nothing to do", case=facts.case.id, file=file))
        return mask
    except MedsegError as error:
        fault = error
    try:
        read_volume(path)
    except MedsegError:
        facts.findings.append(_unreadable(fault, file, case=facts.case.id))
        return None
    message = f"in the mask {file}: {fault.found}"
    remedy = fault.remedy or "Save the mask with one whole number per voxel, the id of its label"
    facts.findings.append(finding("mask-values", message, remedy, case=facts.case.id, file=file))
    return None


def _unreadable(error: MedsegError, file: str, *, case: str) -> DatasetFinding:
    code = "non-finite" if error.code == "non-finite" else "unreadable"
    remedy = error.remedy or "Export or download the file again, or take the case out"
    return finding(code, f"{file} cannot be used: {error.found}", remedy, case=case, file=file)


def _grid_mismatch(mask: Geometry, facts: _Facts, file: str) -> DatasetFinding:
    image = facts.geometry
    if image is None:
        raise InputError("the image has no grid", where=facts.file)
    if mask.shape != image.shape:
        message = f"the mask {file} has the shape {mask.shape}, its image {image.shape} (Z, Y, X)"
    else:
        apart = float(np.abs(mask.corners_lps - image.corners_lps).max())
        message = f"the mask {file} has its image's shape but lies up to {apart:.3g} mm away from it"
    remedy = f"Check that the mask belongs to {facts.file}, and save it on the image's grid"
    return finding("grid-mismatch", message, remedy, case=facts.case.id, file=file)


# -- all cases --------------------------------------------------------------------------------------------------------
def _compared(facts: Sequence[_Facts], listing: Listing) -> list[DatasetFinding]:
    placed = [fact for fact in facts if fact.geometry is not None]
    findings = [*_same_ids(facts), *_duplicates(placed), *_orientations(placed), *_ignored(facts, listing)]
    findings += _mixed_colour(placed, listing)
    if not listing.channels:
        findings += _channel_counts(placed)
        if any(name.startswith("image") for fact in placed for name in fact.channels):
            remedy = "Name them in the recipe: 'channels: [CT]'"
            findings.append(finding("unnamed-channels", "the data set does not say what its images are", remedy))
    findings += _modalities(placed, listing)
    findings += patient_findings([fact.case for fact in facts], [fact.origin for fact in facts])
    findings += _outliers(placed, "spacing-outlier")
    findings += _outliers(placed, "size-outlier")
    findings += _labels(facts, listing.labels)
    return findings


def _ignored(facts: Iterable[_Facts], listing: Listing) -> list[DatasetFinding]:
    """Say how much of the masks nobody decided on."""
    counts = [(fact.ignored, fact.voxels) for fact in facts if fact.voxels]
    ignored, voxels = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    if not ignored:
        return []
    message = f"the masks hold {listing.ignore}, which is ignored, in {100 * ignored / voxels:.2g} % of their voxels"
    remedy = "Nothing to do: nothing is learned from them or scored on them"
    return [finding("ignored-voxels", message, remedy)]


def _mixed_colour(facts: Sequence[_Facts], listing: Listing) -> list[DatasetFinding]:
    """Give grey pictures among colour pictures the channels they are read with, and say so."""
    if listing.channels or not all(fact.geometry is not None for fact in facts):
        return []
    grey = [fact for fact in facts if len(fact.channels) == 1]
    if not grey or colour_channels([fact.case for fact in facts]) != COLOURS:
        return []
    for fact in grey:
        fact.channels = COLOURS
    message = f"{len(grey)} of {len(facts)} pictures are grey, the others are in colour"
    return [finding("mixed-colour", message, "Nothing to do: a grey one is read with three equal channels")]


def _same_ids(facts: Iterable[_Facts]) -> list[DatasetFinding]:
    counts = Counter(fact.case.id for fact in facts)
    return [
        finding(
            "same-id",
            f"{fact.file} is called {fact.case.id}, as {counts[fact.case.id] - 1} other case(s)",
            "Give every case a name of its own",
            case=fact.case.id,
            file=fact.file,
        )
        for fact in facts
        if counts[fact.case.id] > 1
    ]


def _duplicates(facts: Iterable[_Facts]) -> list[DatasetFinding]:
    holders: dict[tuple[str, ...], list[_Facts]] = defaultdict(list)
    for fact in facts:
        holders[fact.hashes].append(fact)
    return [
        finding(
            "duplicate-image",
            f"the image of {again.case.id} holds the same bytes as that of {same[0].case.id}",
            "Keep one of them: a copy in training and validation makes a model look better than it is",
            case=again.case.id,
            file=again.file,
        )
        for same in holders.values()
        for again in same[1:]
    ]


def _orientations(facts: Sequence[_Facts]) -> list[DatasetFinding]:
    codes = Counter(fact.geometry.axis_codes for fact in facts if fact.geometry)
    if len(codes) < 2:
        return []
    listed = ", ".join(f"{code} ({count})" for code, count in codes.most_common())
    remedy = "Nothing to do: all are brought to one orientation"
    return [finding("mixed-orientation", f"the images are stored in several orientations: {listed}", remedy)]


def _channel_counts(facts: Sequence[_Facts]) -> list[DatasetFinding]:
    if not facts:
        return []
    usual = Counter(len(fact.channels) for fact in facts).most_common(1)[0][0]
    return [
        finding(
            "channel-count",
            f"{fact.file} has {len(fact.channels)} channels, most others {usual}",
            "Give all cases the same channels, or take this one out",
            case=fact.case.id,
            file=fact.file,
        )
        for fact in facts
        if len(fact.channels) != usual
    ]


def _modalities(facts: Sequence[_Facts], listing: Listing) -> list[DatasetFinding]:
    """Return the channels whose images are of several modalities, as the files name them."""
    if listing.channels or len({len(fact.channels) for fact in facts}) != 1:
        return []
    findings = []
    for channel, names in enumerate(zip(*(fact.channels for fact in facts), strict=True), start=1):
        counts = Counter(names)
        if len(counts) > 1:
            listed = ", ".join(f"{name} ({count})" for name, count in counts.most_common())
            message = f"the images of channel {channel} are of several kinds: {listed}"
            remedy = "Give each kind a data set of its own, or a column of its own as another channel"
            findings.append(finding("mixed-modality", message, remedy))
    return findings


def _outliers(facts: Sequence[_Facts], code: str) -> list[DatasetFinding]:
    """Return the cases whose spacing, or extent in mm, is far off the median along an axis of the patient."""
    if len(facts) < 3:
        return []
    oriented = [fact.geometry.reoriented("SPL") for fact in facts if fact.geometry]
    spacing = np.array([g.spacing_mm for g in oriented])
    values = spacing if code == "spacing-outlier" else spacing * np.array([g.shape for g in oriented])
    what = "voxels" if code == "spacing-outlier" else "an extent"
    ratio = values / np.median(values, axis=0)
    findings = []
    for fact, value, row in zip(facts, values, ratio, strict=True):
        if (row > OUTLIER).any() or (row < 1 / OUTLIER).any():
            measured = " x ".join(f"{v:.3g}" for v in value)
            message = f"{fact.file} has {what} of {measured} mm (Z, Y, X), far from the others"
            remedy = "Check its header; if it is right, keep it"
            findings.append(finding(code, message, remedy, case=fact.case.id, file=fact.file))
    return findings


def _labels(facts: Sequence[_Facts], labels: LabelSet) -> list[DatasetFinding]:
    used = {value for fact in facts for value in fact.values}
    names = sorted({name.strip() for fact in facts for name in fact.structures})
    if not len(labels) and names and any(set(fact.values) - {0} and not fact.structures for fact in facts):
        remedy = "Put a labels.yaml beside the data, such as 'GTV*: 1'"
        return [finding("mixed-references", "some references hold numbers, others named structures", remedy)]
    if not len(labels) and names:
        listed = ", ".join(repr(name) for name in rules_by_names(names).labels.names)
        remedy = "Nothing to do, or map them to fewer labels in labels.yaml, such as 'GTV*: 1'"
        return [finding("unnamed-labels", f"every name of a structure becomes a label: {listed}", remedy)]
    if not len(labels):
        values = ", ".join(str(v) for v in sorted(used - {0})) or "none"
        remedy = "Name them in labels.yaml beside the images, such as '1: liver'"
        return [finding("unnamed-labels", f"the labels have no names (values found: {values})", remedy)]
    remedy = "Take it out of the labels, or add cases that have it"
    return [
        finding("label-never-used", f"no mask holds the label {label.name} ({label.id})", remedy)
        for label in labels
        if facts and label.id not in used
    ]

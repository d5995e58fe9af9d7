"""What is in this folder? Every file under a path, sorted into items: series, volumes, images, and what is left out."""

from __future__ import annotations

import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import InputError
from medseg.io.dicom.findings import Finding, finding
from medseg.io.dicom.header.objects import Kind, kind_of
from medseg.io.dicom.header.reading import Header, looks_like_dicom, read_header
from medseg.io.dicom.inventory.assembly import image_item, series_item
from medseg.io.dicom.inventory.foreign import file_item, left_out
from medseg.io.dicom.inventory.grouping import group, singles
from medseg.io.dicom.item import Inventory, Item, id_of_series, told_apart
from medseg.io.dicom.quiet import quiet
from medseg.progress import Progress, Step, ignore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_MOST_THREADS = 4  # headers are parsed by Python: more threads only wait for the disk


def inspect_folder(path: Path, *, deep: bool = False, progress: Progress = ignore) -> Inventory:
    """List every series, volume and image under `path`, and say what can be done with it.

    Parameters
    ----------
    path : Path
        A folder of anything, at any depth, or one file. Links are followed, loops are not.
    deep : bool
        Decode every voxel, too; otherwise headers, lengths and the presence of decoders are looked at.
    progress : Progress, optional
        Told after each file (stage ``"inspect"``), and with `deep` after each item (``"decode"``); may cancel.

    Returns
    -------
    Inventory
        Each file in exactly one item, in a stable order.

    Raises
    ------
    InputError
        Where `path` is not there.
    """
    path = Path(path)
    if not path.exists():
        raise InputError("there is no such file or folder", where=str(path))
    root = path if path.is_dir() else path.parent
    files = sorted(_walk(path)) if path.is_dir() else [path]
    items = _items(files, root, progress)
    if deep:
        from medseg.io.dicom.inventory.deep import decoded

        items = decoded(items, progress)
    return Inventory(path, items)


def inspect_files(files: Sequence[Path]) -> Inventory:
    """List what the given files hold, as `inspect_folder` does for a folder.

    Raises
    ------
    InputError
        Where a file is not there.
    """
    files = [Path(file) for file in files]
    for file in files:
        if not file.is_file():
            raise InputError("there is no such file", where=str(file))
    root = Path(os.path.commonpath([file.parent for file in files])) if files else Path()
    return Inventory(root, _items(sorted(files), root, ignore))


def _walk(folder: Path) -> Iterator[Path]:
    """Yield every file under `folder`; a folder reached by two ways once; an unreadable folder as itself."""
    seen: set[str] = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError:
            yield here
            continue
        folders = [entry for entry in entries if entry.is_dir()]
        yield from (Path(entry.path) for entry in entries if not entry.is_dir())
        waiting.extend(Path(entry.path) for entry in reversed(folders))


def _items(files: Sequence[Path], root: Path, progress: Progress) -> tuple[Item, ...]:
    headers: dict[Kind, list[tuple[Header, tuple[Finding, ...]]]] = defaultdict(list)
    items: list[Item] = []
    with quiet(), ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        for done, (file, header) in enumerate(zip(files, pool.map(_peek, files), strict=True)):
            if isinstance(header, Header):
                kind, about = kind_of(header)
                headers[kind].append((header, about))
            elif header is None:
                items.append(file_item(file, root))
            else:
                items.append(left_out(file, root, header, kind="other" if header.effect == "ignored" else "unreadable"))
            progress(Step("inspect", done + 1, len(files)))
        items.extend(_series(headers.pop("series", []), root))
        items.extend(image_item(g, root) for g in singles(header for header, _ in headers.pop("image", [])))
        items.extend(_object(h, about, kind, root) for kind, found in headers.items() for h, about in found)
    order = {file.relative_to(root).as_posix(): n for n, file in enumerate(files)}
    items.sort(key=lambda item: min(order[path] for path in item.paths))
    return told_apart(items)


def _peek(file: Path) -> Header | Finding | None:
    """Return a DICOM file's header, a finding where it cannot be read, or None where it is not DICOM."""
    try:
        if not file.is_file():
            return finding("unreadable", "not a file that can be read", effect="ignored")
        with file.open("rb") as stream:
            start = stream.read(132)
        if not start:
            return finding("empty-file", "an empty file")
        return read_header(file) if looks_like_dicom(start) else None
    except OSError as error:
        return finding("unreadable", f"cannot be opened ({error.strerror or type(error).__name__})")
    except InputError as error:
        return finding("unreadable", error.found)


def _series(headers: Iterable[tuple[Header, tuple[Finding, ...]]], root: Path) -> Iterator[Item]:
    about = {header.path: found for header, found in headers}
    for members in group(header for header, _ in headers):
        yield series_item(members, root, about[members.first.path])


def _object(header: Header, about: tuple[Finding, ...], kind: Kind, root: Path) -> Item:
    """Return the item of a DICOM object that is no image to segment."""
    relative = header.path.relative_to(root).as_posix()
    item_id = id_of_series(header.modality, header.sop_instance or relative)
    return Item(
        item_id, kind, (relative,), root, header.modality or None, header.transfer_syntax or None, findings=about
    )

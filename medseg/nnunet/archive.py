"""An exported model of nnU-Net (``nnUNetv2_export_model_to_zip``), unpacked for as long as it is read."""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

_WANTED = re.compile(
    r"(?:[\w.+-]+/){0,6}(?:plans\.json|dataset\.json|fold_(?:[0-9]{1,4}|all)/checkpoint_(?:final|best)\.pth)"
)
_DOTS = re.compile(r"(?:^|/)\.+/")
_SPARE_BYTES = 1_000_000_000


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Give the folder a path stands for: itself, or what a zip file holds of trained models, in a scratch folder.

    Only the files that make up a model are unpacked, under names that stay inside the scratch folder.

    Raises
    ------
    ModelError
        Where the zip is damaged, holds no model, or is larger than the disk has room for; and what the reader raises,
        with the zip named instead of the scratch folder.
    """
    if not path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="medseg-import-") as scratch:
        try:
            _unpack(path, Path(scratch))
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError) as error:
            raise ModelError("the file is no zip that can be unpacked", where=str(path)) from error
        try:
            yield Path(scratch)
        except ModelError as error:
            where = error.where.replace(scratch, str(path))
            raise ModelError(error.found, expected=error.expected, where=where, remedy=error.remedy) from error


def _unpack(path: Path, scratch: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = [e for e in archive.infolist() if _WANTED.fullmatch(e.filename) and not _DOTS.search(e.filename)]
        if not entries:
            raise ModelError(
                "the zip holds no plans.json, dataset.json and fold_N/checkpoint_final.pth",
                expected="a model as nnUNetv2_export_model_to_zip writes it",
                where=str(path),
            )
        size, room = sum(entry.file_size for entry in entries), shutil.disk_usage(scratch).free - _SPARE_BYTES
        if size > room:
            raise ModelError(f"the zip unpacks to {size / 1e9:.1f} GB", expected=f"{room / 1e9:.1f} GB, which are free")
        for entry in entries:
            target = scratch / entry.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)

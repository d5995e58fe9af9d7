"""The text headers of NRRD and MetaImage, read before ITK sees the file: what they promise and where they point."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import InputError
from medseg.io.stream import MAX_DEFLATE_RATIO, check_unpacked_length

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_HEADER_BYTES = 1 << 20
_NRRD_END = re.compile(rb"\r?\n\r?\n")
_META_END = re.compile(rb"^[ \t]*ElementDataFile[ \t]*[=:][^\n]*(\n|\Z)", re.IGNORECASE | re.MULTILINE)
_PATIENT_SPACES = re.compile(
    r"(right|left)-(anterior|posterior)-(superior|inferior)(-time)?|[rl][ap][si]t?", re.IGNORECASE
)
_META_MATRICES = ("transformmatrix", "rotation", "orientation")
_META_PLACES = ("offset", "position", "origin", "elementspacing", "dimsize", *_META_MATRICES)
_TRUE = ("true", "1")


@dataclass(frozen=True, slots=True)
class ItkHeader:
    """What a header says about the voxels' bytes.

    Attributes
    ----------
    data_file : Path
        The file the voxels are in.
    offset : int
        Where they begin in it.
    compressed_bytes : int or None
        How many compressed bytes there are, where the header says so.
    is_raw : bool
        Whether they are stored as they are.
    is_compressed : bool
        Whether they are deflated; otherwise raw or text. NRRD uses gzip to the file's end, MetaImage zlib.
    is_placed : bool
        Whether the header says where the voxels lie in the patient.
    """

    data_file: Path
    offset: int
    compressed_bytes: int | None
    is_raw: bool
    is_compressed: bool
    is_placed: bool

    def check_length(self, n_bytes: int, *, path: Path) -> None:
        """Refuse a file that cannot hold `n_bytes` bytes of voxels, before memory is taken for them."""
        present = self.data_file.stat().st_size - self.offset
        wanted = self.compressed_bytes or (n_bytes if self.is_raw else n_bytes // MAX_DEFLATE_RATIO)
        is_too_small = present < wanted
        if self.is_compressed and self.compressed_bytes is not None:
            is_too_small = is_too_small or n_bytes > self.compressed_bytes * MAX_DEFLATE_RATIO
        if is_too_small:
            raise InputError(
                f"{present} bytes of voxels are there",
                expected=f"enough for the {n_bytes} its header promises",
                where=str(path),
                remedy="The file is not complete: copy or export it again",
            )
        if self.is_compressed and path.suffix.lower() == ".nrrd":
            check_unpacked_length(path, n_bytes, gzip_from=self.offset)


def read_header(path: Path) -> ItkHeader:
    """Return the header of a NRRD or MetaImage file, refusing those that point elsewhere.

    Raises
    ------
    InputError
        Where the file is neither, or its voxels lie in a file that is not beside it.
    """
    try:
        with path.open("rb") as file:
            block = file.read(_MAX_HEADER_BYTES)
        return _nrrd(block, path) if path.suffix.lower() == ".nrrd" else _meta(block, path)
    except OSError as error:
        raise InputError(f"the file cannot be read ({error.strerror})", where=str(path)) from error


def _nrrd(block: bytes, path: Path) -> ItkHeader:
    """Read a NRRD header (http://teem.sourceforge.net/nrrd/format.html)."""
    end = _NRRD_END.search(block)
    if not block.startswith(b"NRRD000"):
        raise InputError("the file does not begin like NRRD", where=str(path))
    fields = _fields(block[: end.start() if end else len(block)], ":")
    if "data file" in fields or "datafile" in fields:
        raise InputError(
            "the voxels are said to be in another file", where=str(path), remedy="Save image and header as one .nrrd"
        )
    if end is None:
        raise InputError("the header has no end", where=str(path))
    _refuse_other_units(fields.get("space units", ""), path)
    encoding = fields.get("encoding", "raw").lower()
    if encoding not in ("raw", "gzip", "gz", "txt", "text", "ascii"):
        raise InputError(f"the encoding is {encoding!r}", expected="raw, gzip or ascii", where=str(path))
    is_placed = _PATIENT_SPACES.fullmatch(fields.get("space", "")) is not None
    is_raw, is_gzip = encoding == "raw", encoding.startswith("gz")
    return ItkHeader(path, end.end(), None, is_raw, is_gzip, is_placed and "space directions" in fields)


def _meta(block: bytes, path: Path) -> ItkHeader:
    """Read a MetaImage header (https://docs.itk.org/en/latest/learn/metaio.html)."""
    end = _META_END.search(block)
    if end is None:
        raise InputError("the file does not begin like MetaImage: it names no ElementDataFile", where=str(path))
    fields = _fields(block[: end.end()], "=")
    _refuse_bad_numbers(fields, path)
    name = fields.get("elementdatafile", "")
    data_file, offset = (path, end.end()) if name.upper() == "LOCAL" else (_beside(path, name), 0)
    is_compressed = fields.get("compresseddata", "").lower() in _TRUE
    compressed_bytes = fields.get("compresseddatasize", "")
    if "headersize" in fields and fields["headersize"] != "0":
        raise InputError("the voxels begin after a foreign header", expected="HeaderSize 0", where=str(path))
    is_text = fields.get("binarydata", "true").lower() not in _TRUE
    return ItkHeader(
        data_file,
        offset,
        int(compressed_bytes) if is_compressed and compressed_bytes.isascii() and compressed_bytes.isdigit() else None,
        is_raw=not (is_compressed or is_text),
        is_compressed=is_compressed,
        is_placed=bool(set(_META_MATRICES) & set(fields)),
    )


def _refuse_bad_numbers(fields: Mapping[str, str], path: Path) -> None:
    """Refuse positions that MetaIO would read as 0 without a word: too few numbers, or not finite ones."""
    dimensions = fields.get("ndims", "")
    if not (dimensions.isascii() and dimensions.isdigit()):
        raise InputError(f"NDims is {dimensions!r}", expected="a number", where=str(path))
    for name in _META_PLACES:
        words = fields.get(name, "").split()
        wanted = int(dimensions) ** (2 if name in _META_MATRICES else 1)
        if words and (len(words) != wanted or not all(_is_finite(word) for word in words)):
            raise InputError(f"{name} is {' '.join(words)!r}", expected=f"{wanted} finite numbers", where=str(path))


def _is_finite(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def _beside(path: Path, name: str) -> Path:
    """Return the data file of a header, which must be a plain name in the header's folder."""
    data_file = path.parent / Path(name.replace("\\", "/")).name
    if not name or data_file.name != name or not data_file.is_file():
        raise InputError(
            "the voxels are said to be in another file that is not beside the header",
            where=str(path),
            remedy="Put both files into one folder, or save as .mha",
        )
    return data_file


def _fields(block: bytes, separator: str) -> Mapping[str, str]:
    """Return ``name separator value`` lines with lower-case names; the last of a name counts."""
    fields = {}
    for line in block.decode("utf-8", errors="replace").splitlines():
        name, found, value = line.partition(separator)
        if not found and separator == "=":
            name, found, value = line.partition(":")
        if found and not line.startswith("#"):
            fields[" ".join(name.lower().split())] = value.strip().lstrip("=").strip()
    return fields


def _refuse_other_units(text: str, path: Path) -> None:
    units = {unit.strip().lower() for unit in re.findall(r'"([^"]*)"', text)} - {"", "mm", "millimeter", "millimetre"}
    if units:
        raise InputError(
            f"lengths are in {', '.join(sorted(units))}", expected="millimetres", where=str(path), remedy="Convert it"
        )

"""Modality look-up tables: stored values that become physical ones by a table instead of a slope."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import InputError
from medseg.io.dicom.findings import RULES
from medseg.io.dicom.header.attributes import BAD_VALUE, value
from medseg.io.dicom.voxels.elements import as_number, item_of, number_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset


@dataclass(frozen=True, eq=False)
class Table:
    """A look-up table.

    Attributes
    ----------
    entries : (N,) uint8 or uint16
        Physical values.
    first : int
        The stored value that the first entry stands for; lower ones have it too, and higher ones than those of the
        table the last entry.
    """

    entries: NDArray[np.unsignedinteger[Any]]
    first: int

    def applied(self, plane_yx: NDArray[Any]) -> NDArray[np.unsignedinteger[Any]]:
        """Return the physical values of stored integers.

        Examples
        --------
        >>> Table(np.array([5, 7, 9], np.uint8), first=-1).applied(np.array([[-3, 0, 8]], np.int16))
        array([[5, 7, 9]], dtype=uint8)
        """
        return self.entries[np.clip(plane_yx.astype(np.int64) - self.first, 0, self.entries.size - 1)]

    @property
    def ends(self) -> tuple[float, float]:
        """Least and greatest physical value."""
        return float(self.entries.min()), float(self.entries.max())

    def mirrored(self) -> Table:
        """Return the table with its values turned round within their range: the least becomes the greatest."""
        turned = int(self.entries.min()) + int(self.entries.max()) - self.entries.astype(np.int64)
        return Table(turned.astype(self.entries.dtype), self.first)


def table_of(dataset: Dataset) -> Table | None:
    """Read the modality look-up table of a header (PS3.3 section C.11.1.1).

    Parameters
    ----------
    dataset : Dataset
        A header; its descriptor may be signed or not, whatever the pixels are.

    Returns
    -------
    Table or None
        ``None`` where there is none.

    Raises
    ------
    InputError
        Where descriptor and data do not make a table (code ``bad-rescale``).
    """
    item = item_of(dataset, "ModalityLUTSequence")
    if item is None:
        return None
    count, first, bits = _descriptor(item, is_signed=number_of(dataset, "PixelRepresentation") == 1)
    entries = _entries(value(item, "LUTData"), count, is_big_endian=_is_big_endian(dataset, item))
    return Table(entries.astype(np.uint8) if bits == 8 and entries.max() < 256 else entries, first)


def _descriptor(item: Dataset, *, is_signed: bool) -> tuple[int, int, int]:
    """Return number of entries, first stored value and bits of an entry."""
    try:
        count, first, bits = (as_number(v) for v in value(item, "LUTDescriptor"))
    except BAD_VALUE:
        raise _unusable("the LUT Descriptor of the modality table is not three numbers") from None
    if count is None or first is None or bits is None or not all(map(math.isfinite, (count, first, bits))):
        raise _unusable("the LUT Descriptor of the modality table is not three numbers")
    if not 8 <= bits <= 16:
        raise _unusable(f"the modality table has entries of {bits:g} bits, where 8 to 16 are known")
    start = int(first) & 0xFFFF
    return int(count) & 0xFFFF or 1 << 16, start - (1 << 16) if is_signed and start >> 15 else start, int(bits)


def _entries(data: Any, count: int, *, is_big_endian: bool) -> NDArray[np.uint16]:
    """Return the entries; data of as many bytes as entries hold one each, whatever the descriptor says."""
    found: NDArray[Any]
    if isinstance(data, bytes):
        is_bytes = len(data) in {count, count + count % 2} and len(data) < 2 * count
        found = np.frombuffer(data[: len(data) // 2 * 2], ">u2" if is_big_endian else "<u2")
        found = _bytewise(data, found, is_big_endian=is_big_endian) if is_bytes else found
    else:
        try:
            found = np.array([int(v) & 0xFFFF for v in (data if hasattr(data, "__iter__") else [data])], np.uint16)
        except BAD_VALUE:
            found = np.empty(0, np.uint16)
    if found.size < count:
        raise _unusable(f"the modality table holds {found.size} entries, where its descriptor says {count}")
    return found[:count].astype(np.uint16)


def _bytewise(data: bytes, pairs: NDArray[Any], *, is_big_endian: bool) -> NDArray[Any]:
    """Return entries of one byte; in big-endian words the first entry is the low byte (PS3.5 section 8.1.1)."""
    if not is_big_endian or len(data) % 2:
        return np.frombuffer(data, np.uint8)
    return pairs.astype("<u2").view(np.uint8)


def _is_big_endian(dataset: Dataset, item: Dataset) -> bool:
    for part in (item, dataset):
        encoding = getattr(part, "original_encoding", (None, None))
        if encoding[1] is not None:
            return not encoding[1]
    return False


def _unusable(found: str) -> InputError:
    return InputError(found, remedy=RULES["bad-rescale"].remedy, code="bad-rescale")

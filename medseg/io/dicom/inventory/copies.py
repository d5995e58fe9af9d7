"""Files that hold what another one holds already: copies of an instance, and instances sent twice under two UIDs."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pydicom import uid

from medseg.io.dicom.header.lengths import missing_bytes

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from medseg.io.dicom.header.reading import Header

_MOST_COMPARED = 4  # files whose pixels are held against those of another


def without_copies(members: Sequence[Header]) -> tuple[list[Header], list[tuple[Header, Header]]]:
    """Return one file per instance, and each copy with the file kept: a whole one goes first, then a lossless one.

    A copy is a file with the UID, number and place of another; some tools give all slices one UID. So is a file whose
    header puts it where another is, in place, number and time, and whose pixel data are the same bytes: some archives
    give what is sent again another UID.

    Parameters
    ----------
    members : sequence of Header
        Of files, in a stable order.
    """
    kept: list[Header] = []
    copies: list[tuple[int, Header]] = []
    by_instance: dict[Hashable, list[int]] = defaultdict(list)
    for header in members:
        twins = [i for i in by_instance[header.sop_instance] if _is_copy(kept[i], header)]
        twins = twins or [i for i in by_instance[_scene(header)][:_MOST_COMPARED] if _is_sent_again(kept[i], header)]
        if not twins:
            by_instance[header.sop_instance].append(len(kept))
            by_instance[_scene(header)].append(len(kept))
            kept.append(header)
        elif _flaws(header) < _flaws(kept[twins[0]]):
            copies.append((twins[0], kept[twins[0]]))
            kept[twins[0]] = header
        else:
            copies.append((twins[0], header))
    return kept, [(copy, kept[twin]) for twin, copy in copies]


def _is_copy(a: Header, b: Header) -> bool:
    """Tell whether two files hold the same instance: not by its UID alone, as some tools give all slices one UID."""
    return bool(a.sop_instance) and _instance(a) == _instance(b)


def _instance(h: Header) -> tuple[Hashable, ...]:
    place = h.position, h.rows, h.columns, h.frames
    return h.sop_instance, h.series_uid, h.instance_number, h.temporal_position, *place


def _scene(h: Header) -> tuple[Hashable, ...]:
    """Return what two files share where one was sent again under another UID."""
    when = h.instance_number, h.acquisition, h.temporal_position, h.delays_ms, h.b_value, h.echo_time
    what = h.series_uid, h.image_type, h.kernel, h.slope, h.intercept, h.rows, h.columns
    return *what, *when, h.position, h.orientation, h.transfer_syntax, h.pixels and h.pixels.declared


def _is_sent_again(a: Header, b: Header) -> bool:
    """Tell whether two single images at one place, of one number and time, are the same to the byte."""
    if a.position is None or a.instance_number == 0 or a.frames > 1 or missing_bytes(a) or missing_bytes(b):
        return False
    try:
        stored = _stored(a)
        return stored != b"" and stored == _stored(b)
    except OSError:
        return False  # what is wrong with the file is said where it is read


def _stored(h: Header) -> bytes:
    """Return the pixel data as they are in the file; compressed ones with all that follows, where they end unknown."""
    if h.pixels is None or h.transfer_syntax == uid.DeflatedExplicitVRLittleEndian:
        return b""
    with h.path.open("rb") as stream:
        stream.seek(h.pixels.start)
        return stream.read(-1 if h.pixels.encapsulated else h.pixels.declared)


def _flaws(header: Header) -> tuple[bool, bool]:
    return missing_bytes(header) > 0, header.is_lossy

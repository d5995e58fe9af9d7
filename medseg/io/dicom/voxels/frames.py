"""One frame of a file's pixels, as stored, whatever the transfer syntax.

What comes out equals pydicom's ``pixel_array``. No more than one frame of a file is read at once.
Call everything here inside `medseg.io.dicom.quiet.quiet`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import jpeg_ls
import numpy as np
from pydicom import uid
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import get_decoder

from medseg.errors import InputError
from medseg.io.dicom.voxels.codestream import frame_size
from medseg.io.dicom.voxels.pixels import Pixels, refusal, undecodable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

_PLAIN = frozenset({uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian})
_END_OF_IMAGE = b"\xff\xd9"


def encoded_frames(pixels: Pixels, wanted: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Yield compressed frames, each with its number, reading the file once from front to back.

    Parameters
    ----------
    pixels : Pixels
        Encapsulated ones.
    wanted : iterable of int
        Numbers of frames, counted from 0.

    Raises
    ------
    InputError
        Where the frames cannot be told apart, or one is not there.
    """
    left = set(wanted)
    with pixels.path.open("rb") as stream:
        bounded = _Bounded(stream, pixels.start)
        frames = generate_frames(bounded, number_of_frames=pixels.frames, extended_offsets=pixels.offsets)
        for number in range(max(left) + 1):
            try:
                frame = next(frames)
            except StopIteration:
                words = f"frame {number + 1} of {pixels.frames} is not there"
                raise refusal(words, pixels.path, "truncated") from None
            except Exception as error:  # pydicom raises whatever its parsers raise on damaged tables and fragments
                raise undecodable(pixels) from error
            if number in left:
                yield number, frame


def read_frame(pixels: Pixels, frame: int, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Read and decode one frame.

    Parameters
    ----------
    pixels : Pixels
        Of the file.
    frame : int
        Its number, counted from 0.
    out : (Y, X) array, optional
        Where to put it; its type holds all values of ``pixels.dtype``.

    Returns
    -------
    (Y, X) integer or float
        Stored values, before any rescale; `out` where that is given.

    Raises
    ------
    InputError
        Where it cannot be decoded; the message names the transfer syntax.
    """
    if pixels.encapsulated:
        ((_, encoded),) = encoded_frames(pixels, [frame])
        return decode_frame(pixels, encoded, out=out)
    try:
        return _native(pixels, frame, out)
    except InputError:
        raise
    except Exception as error:  # pydicom's decoder of rare layouts raises anything
        raise undecodable(pixels) from error


def decode_frame(pixels: Pixels, encoded: bytes, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Decode one compressed frame.

    Parameters
    ----------
    pixels : Pixels
        Of the file it is from.
    encoded : bytes
        From `encoded_frames`.
    out : (Y, X) array, optional
        Where to put it.

    Raises
    ------
    InputError
        As `read_frame`.
    """
    precision = _check_frame(pixels, encoded)
    try:
        if pixels.syntax == uid.JPEGExtended12Bit and precision > 8:
            image = _by_gdcm(pixels, encoded)
        elif pixels.syntax in uid.JPEGLSTransferSyntaxes:
            image = _by_pyjpegls(pixels, encoded, precision)
        else:
            image = _by_pydicom(pixels, encoded)
    except Exception as error:  # decoders of five libraries raise anything on damaged data
        raise undecodable(pixels) from error
    if image.shape != (pixels.rows, pixels.columns):
        words = f"a frame decodes to the shape {image.shape}, where {(pixels.rows, pixels.columns)} is expected"
        raise refusal(words, pixels.path, "undecodable")
    if out is None:
        return image.astype(pixels.dtype, copy=False)
    out[...] = image
    return out


def _check_frame(pixels: Pixels, encoded: bytes) -> int:
    """Refuse a frame of another size than the header's; return its bits a sample."""
    if pixels.syntax == uid.RLELossless:
        return pixels.bits_allocated
    size = frame_size(encoded)
    if size is None:
        raise undecodable(pixels)
    if (size.rows, size.columns, size.samples) != (pixels.rows, pixels.columns, 1) or size.bits > pixels.bits_allocated:
        words = (
            f"a compressed frame of {size.rows} x {size.columns} pixels, {size.samples} samples of {size.bits} bits, "
            f"where the header says {pixels.rows} x {pixels.columns}, 1 and {pixels.bits_allocated}"
        )
        raise refusal(words, pixels.path, "undecodable")
    return size.bits


def _native(pixels: Pixels, frame: int, out: NDArray[Any] | None) -> NDArray[Any]:
    if pixels.syntax not in _PLAIN or pixels.bits_allocated == 1:
        return _rare(pixels, frame, out)
    direct = out is not None and out.dtype == pixels.dtype and out.flags.c_contiguous
    image = out if direct and out is not None else np.empty((pixels.rows, pixels.columns), pixels.dtype)
    at = pixels.start + frame * pixels.frame_bytes
    if pixels.content is not None:
        image[...] = np.frombuffer(pixels.content, pixels.dtype, image.size, at).reshape(image.shape)
    else:
        with pixels.path.open("rb") as stream:
            stream.seek(at)
            if stream.readinto(image.data.cast("B")) != image.nbytes:
                raise refusal("the pixel data end early", pixels.path, "truncated")
    unused = pixels.bits_allocated - pixels.bits_stored
    if unused:  # bits that belong to no value, and the sign
        np.left_shift(image, unused, out=image)
        np.right_shift(image, unused, out=image)
    if out is None or image is out:
        return image
    out[...] = image
    return out


def _rare(pixels: Pixels, frame: int, out: NDArray[Any] | None) -> NDArray[Any]:
    """Read a frame in big-endian order, or of single bits."""
    decoder, options = get_decoder(pixels.syntax), {**pixels.options, "number_of_frames": pixels.frames}
    with pixels.path.open("rb") as stream:
        stream.seek(pixels.start)
        source: Any = stream if pixels.content is None else pixels.content[pixels.start :]
        image, _ = decoder.as_array(source, index=frame, raw=True, **options)
    if out is None:
        return np.asarray(image.astype(image.dtype.newbyteorder("="), copy=False))
    out[...] = image
    return out


def _by_pydicom(pixels: Pixels, encoded: bytes) -> NDArray[Any]:
    library = "gdcm" if pixels.syntax in uid.JPEGLSTransferSyntaxes else ""  # else pydicom's order
    source, options = encapsulate([encoded], has_bot=False), {**pixels.options, "number_of_frames": 1}
    image, _ = get_decoder(pixels.syntax).as_array(source, index=0, raw=True, decoding_plugin=library, **options)
    return image


def _by_pyjpegls(pixels: Pixels, encoded: bytes, bits: int) -> NDArray[Any]:
    """Decode JPEG-LS, in half the time that GDCM takes; GDCM is asked where this does not manage.

    Not where the frame has no end: pyjpegls searches for it for half a minute.
    """
    if not encoded.rstrip(b"\0").endswith(_END_OF_IMAGE):
        return _by_pydicom(pixels, encoded)
    try:
        content, _ = jpeg_ls.decode_pixel_data(encoded)
        image = np.frombuffer(content, "u1" if bits <= 8 else "<u2").reshape(pixels.rows, pixels.columns)
    except (RuntimeError, ValueError):
        return _by_pydicom(pixels, encoded)
    if not pixels.signed:
        return image
    values, unused = image.astype(pixels.dtype), pixels.bits_allocated - bits
    np.left_shift(values, unused, out=values)  # the codestream knows no sign
    np.right_shift(values, unused, out=values)
    return values


def _by_gdcm(pixels: Pixels, encoded: bytes) -> NDArray[Any]:
    """Decode 12-bit JPEG Extended, which of all permissive decoders GDCM alone reads; pydicom does not ask it to."""
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(encoded)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((pixels.columns, pixels.rows, 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str.__str__(pixels.syntax))))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, 0))
    content = image.GetBuffer().encode("utf-8", "surrogateescape")  # bytes that pass for text on the way here
    values = np.frombuffer(content, "<u2", pixels.rows * pixels.columns).reshape(pixels.rows, pixels.columns)
    return values.astype(pixels.dtype)


class _Bounded:
    """A stream from `start` on that never asks for more bytes than the file holds, whatever a length says."""

    def __init__(self, stream: BinaryIO, start: int) -> None:
        self._stream = stream
        self._end = stream.seek(0, 2)
        stream.seek(start)

    def read(self, size: int = -1, /) -> bytes:
        left = max(0, self._end - self._stream.tell())
        return self._stream.read(left if size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

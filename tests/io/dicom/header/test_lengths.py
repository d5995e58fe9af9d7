from __future__ import annotations

import io
import zlib

import pytest

from medseg.io.dicom.header.lengths import inflated


@pytest.mark.parametrize("padding", [b"", b"\0", b"\0" * 9])
@pytest.mark.parametrize("count", [0, 5, 2**20, 2**22 + 1234])
def test_what_stands_behind_a_deflated_data_set_comes_to_an_end(count, padding):
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(bytes(count)) + packer.flush()
    assert inflated(io.BytesIO(packed + padding)) == bytes(count)

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from medseg.errors import InputError
from medseg.io.dicom import find_series, write_seg, write_series
from medseg.io.dicom.seg.frames import frames_of, plane_of
from medseg.labels import LabelSet
from medseg.volume import Segmentation

ENCODERS = {RLELossless: "pydicom", JPEG2000Lossless: "pylibjpeg", JPEGLSLossless: "pyjpegls"}
LABELS = LabelSet.from_names({1: "liver", 2: "spleen"})


@pytest.fixture
def make_seg(tmp_path, make_image):
    """Return a function that writes a SEG and gives its data set and the mask."""

    def make(kind="binary", shape=(4, 5, 7)):
        write_series(make_image(low=0, shape=shape), tmp_path / "series", modality="CT")
        source = find_series(tmp_path / "series")
        array = np.random.default_rng(0).integers(0, 3, shape).astype(np.uint8)
        path = tmp_path / "seg.dcm"
        write_seg(Segmentation(array, source.geometry, LABELS), path, source=source, kind=kind)
        return pydicom.dcmread(path), array, source

    return make


@pytest.mark.parametrize("shape", [(4, 5, 7), (3, 8, 8), (5, 3, 3)])
def test_bits_are_unpacked_across_the_borders_of_frames(shape, make_seg):
    dataset, array, source = make_seg(shape=shape)
    for frame in frames_of(dataset):
        z = round(source.geometry.to_index(frame.position_lps)[0])
        np.testing.assert_array_equal(frame.pixels_yx, array[z] == frame.segment)
        assert frame.source_uids == (pydicom.dcmread(source.paths[z]).SOPInstanceUID,)


def test_frames_of_a_label_map_are_decoded_one_by_one(make_seg):
    dataset, array, source = make_seg("labelmap")
    assert dataset.file_meta.TransferSyntaxUID == RLELossless
    for frame in frames_of(dataset):
        assert frame.segment is None
        np.testing.assert_array_equal(frame.pixels_yx, array[round(source.geometry.to_index(frame.position_lps)[0])])


def test_the_plane_is_that_of_the_source(make_seg):
    dataset, _, source = make_seg()
    orientation, spacing, between = plane_of(dataset)
    np.testing.assert_allclose(orientation, [1, 0, 0, 0, 1, 0], atol=1e-9)
    assert (between, *spacing) == pytest.approx(source.geometry.spacing_mm)


@pytest.mark.parametrize(("value", "numbers"), [(3, [3]), ([3, 5], [3, 5]), (None, [None])])
def test_references_to_frames_are_told_one_by_one(value, numbers, make_seg):
    dataset, _, _ = make_seg()
    image = dataset.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    if value is not None:
        image.ReferencedFrameNumber = value
    frame = next(frames_of(dataset))
    assert [number for _, number in frame.sources] == numbers
    assert set(frame.source_uids) == {image.ReferencedSOPInstanceUID}


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_label_maps_of_other_writers_may_be_compressed_otherwise(syntax, make_seg):
    dataset, _, _ = make_seg("labelmap", shape=(3, 64, 72))
    wanted = [frame.pixels_yx for frame in frames_of(dataset)]
    dataset.decompress()
    dataset.compress(syntax, encoding_plugin=ENCODERS[syntax], generate_instance_uid=False)
    for frame, pixels in zip(frames_of(dataset), wanted, strict=True):
        np.testing.assert_array_equal(frame.pixels_yx, pixels)


def test_what_only_an_unsafe_library_decodes_is_refused(make_seg):
    dataset, _, _ = make_seg("labelmap")
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    with pytest.raises(InputError, match="no decoder") as caught:
        next(frames_of(dataset))
    assert caught.value.code == "undecodable"


def test_pixel_data_that_end_early_are_refused(make_seg):
    dataset, _, _ = make_seg()
    dataset.PixelData = dataset.PixelData[:-4]
    with pytest.raises(InputError, match="hold") as caught:
        list(frames_of(dataset))
    assert caught.value.code == "truncated"


def test_frames_that_are_not_described_are_refused(make_seg):
    dataset, _, _ = make_seg()
    dataset.NumberOfFrames -= 1
    with pytest.raises(InputError, match="frames are described"):
        list(frames_of(dataset))


def test_what_is_no_segmentation_is_refused():
    with pytest.raises(InputError, match="of no known type"):
        list(frames_of(Dataset()))


def test_a_frame_without_a_place_is_refused(make_seg):
    dataset, _, _ = make_seg()
    del dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence
    with pytest.raises(InputError, match="no PlanePositionSequence"):
        list(frames_of(dataset))

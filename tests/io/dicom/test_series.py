from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from medseg.errors import InputError
from medseg.io.dicom import find_series, inspect_folder, read_series, read_series_geometry, write_series
from medseg.progress import Cancelled


def edit(paths, **changes):
    """Set attributes of written files; a callable gets the slice index; None deletes."""
    for z, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        for keyword, value in changes.items():
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value(z) if callable(value) else value)
        dataset.save_as(path)


def only_item(folder):
    (item,) = inspect_folder(folder).items
    return item


def codes(item):
    return {f.code for f in item.findings}


def test_a_folder_a_file_list_an_item_and_a_source_read_the_same(tmp_path, make_image):
    image = make_image()
    paths = write_series(image, tmp_path / "s")
    sources = [tmp_path / "s", list(paths)[::-1], tuple(paths), only_item(tmp_path), find_series(tmp_path)]
    for source in sources:
        back = read_series(source)
        np.testing.assert_array_equal(back.array, image.array)
        assert read_series_geometry(source).same_grid(image.geometry, 1e-6)
    assert find_series(tmp_path).paths == paths


def test_names_say_nothing_about_order(tmp_path, make_image):
    image = make_image()
    paths = write_series(image, tmp_path / "s")
    rng = np.random.default_rng(5)
    for path, name in zip(paths, rng.permutation(len(paths)), strict=True):
        path.rename(path.with_name(f"file{name}"))
    np.testing.assert_array_equal(read_series(tmp_path).array, image.array)


def test_nominal_tags_do_not_move_slices(tmp_path, make_image):
    image = make_image()
    paths = write_series(image, tmp_path / "s")
    edit(
        paths, SliceThickness=99.0, SpacingBetweenSlices=0.1, SliceLocation=lambda z: -z, InstanceNumber=lambda z: 9 - z
    )
    assert read_series_geometry(tmp_path).same_grid(image.geometry, 1e-6)


def test_several_series_are_not_guessed_between(tmp_path, make_image):
    write_series(make_image(seed=1), tmp_path / "a", name="a")
    second = make_image(seed=2)
    write_series(second, tmp_path / "b", name="b")
    with pytest.raises(InputError, match="2 series"):
        read_series(tmp_path)
    wanted = next(item for item in inspect_folder(tmp_path).items if item.paths[0].startswith("b/"))
    np.testing.assert_array_equal(read_series(tmp_path, item=wanted.id).array, second.array)
    with pytest.raises(InputError, match="no DICOM image series"):
        read_series(tmp_path, item="ct-00000000")


def test_no_series_is_said(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(InputError, match="no DICOM image series"):
        read_series(tmp_path)
    with pytest.raises(InputError, match="no such"):
        read_series(tmp_path / "absent")


def test_a_missing_slice_is_repairable_and_not_read(tmp_path, make_image):
    paths = write_series(make_image(), tmp_path / "s")
    paths[2].unlink()
    item = only_item(tmp_path)
    assert (item.status, codes(item), item.geometry) == ("repairable", {"missing-slice"}, None)
    assert item.spacing_mm == pytest.approx((3.0, 0.8, 0.7))
    with pytest.raises(InputError, match="regular grid") as caught:
        read_series(tmp_path)
    assert caught.value.code == "missing-slice"


def test_a_copied_instance_is_dropped(tmp_path, make_image):
    image = make_image()
    paths = write_series(image, tmp_path / "s")
    shutil.copy(paths[1], tmp_path / "copy.dcm")
    item = only_item(tmp_path)
    assert (item.status, codes(item)) == ("ok", {"duplicate-instance"})
    assert len(item.paths) == len(paths) + 1
    np.testing.assert_array_equal(read_series(item).array, image.array)


def test_a_truncated_copy_gives_way_to_a_whole_one(tmp_path, make_image):
    image = make_image()
    paths = write_series(image, tmp_path / "s")
    (tmp_path / "a.dcm").write_bytes(paths[1].read_bytes()[:-20])
    item = only_item(tmp_path)
    assert item.status == "ok"
    np.testing.assert_array_equal(read_series(item).array, image.array)


def test_repeated_positions_are_volumes_to_choose_from(tmp_path, make_image):
    first, second = make_image(seed=1), make_image(seed=2)
    paths = write_series(first, tmp_path / "a", name="x")
    more = write_series(second, tmp_path / "b", name="x")
    edit(more, SOPInstanceUID=lambda z: f"2.25.{1000 + z}", InstanceNumber=lambda z: 100 + z, AcquisitionNumber=2)
    item = only_item(tmp_path)
    assert (item.status, item.volumes, codes(item)) == ("repairable", 2, {"four-d"})
    assert item.geometry is not None
    with pytest.raises(InputError, match="--volume"):
        read_series(item)
    for number, image in enumerate((first, second)):
        np.testing.assert_array_equal(read_series(item, volume=number).array, image.array)
    with pytest.raises(InputError, match="no volume 2"):
        read_series(item, volume=2)
    assert len(item.paths) == len(paths) + len(more)


def test_a_position_held_twice_is_refused(tmp_path, make_image):
    paths = write_series(make_image(), tmp_path / "s")
    shutil.copy(paths[1], tmp_path / "other.dcm")
    edit([tmp_path / "other.dcm"], SOPInstanceUID="2.25.77", InstanceNumber=50)
    item = only_item(tmp_path)
    assert (item.status, codes(item)) == ("refused", {"duplicate-position"})
    with pytest.raises(InputError, match="some positions hold 1 slice, others 2"):
        read_series(tmp_path)


def test_overlapping_acquisitions_are_items_of_their_own(tmp_path, make_image, make_grid):
    first = make_image(seed=1)
    write_series(first, tmp_path / "a", name="x")
    more = write_series(make_image(seed=2), tmp_path / "b", name="x")
    edit(
        more,
        SOPInstanceUID=lambda z: f"2.25.{1000 + z}",
        AcquisitionNumber=2,
        ImagePositionPatient=lambda z: [-81.25, -97.5, 34.0 + 3 * z],
    )
    items = inspect_folder(tmp_path).items
    assert [(item.status, codes(item)) for item in items] == [("ok", {"several-acquisitions"})] * 2
    assert len({item.id for item in items}) == 2
    np.testing.assert_array_equal(read_series(items[0]).array, first.array)


def test_acquisitions_end_to_end_are_one_volume(tmp_path, make_image):
    image = make_image()
    paths = write_series(image, tmp_path / "s")
    edit(paths, AcquisitionNumber=lambda z: z // 2)
    assert only_item(tmp_path).findings == ()
    np.testing.assert_array_equal(read_series(tmp_path).array, image.array)


def test_sizes_types_and_orientations_are_parted(tmp_path, make_image):
    write_series(make_image("SPL"), tmp_path / "a", name="x")
    other = write_series(make_image("PSL", shape=(4, 9, 7)), tmp_path / "b", name="x")
    edit(other, SOPInstanceUID=lambda z: f"2.25.{1000 + z}", ImageType=["DERIVED", "PRIMARY", "AXIAL"])
    items = inspect_folder(tmp_path).items
    assert [item.status for item in items] == ["ok", "ok"]
    assert codes(items[0]) == {"mixed-type", "mixed-size", "mixed-orientation"}


def test_empty_uids_fall_back_to_the_folder(tmp_path, make_image):
    images = [make_image(seed=n) for n in range(2)]
    for n, image in enumerate(images):
        paths = write_series(image, tmp_path / str(n), name=str(n))
        edit(paths, SeriesInstanceUID="", StudyInstanceUID="", SOPInstanceUID="", SOPClassUID="")
    items = inspect_folder(tmp_path).items
    assert [(item.status, codes(item)) for item in items] == [("ok", {"empty-uid"})] * 2
    for item, image in zip(items, images, strict=True):
        np.testing.assert_array_equal(read_series(item).array, image.array)


def test_one_instance_uid_for_all_slices_drops_none(tmp_path, make_image):
    image = make_image()
    edit(write_series(image, tmp_path / "s"), SOPInstanceUID="2.25.1")
    item = only_item(tmp_path)
    assert (item.status, codes(item)) == ("ok", {"empty-uid"})
    np.testing.assert_array_equal(read_series(item).array, image.array)


def test_a_lone_slice_takes_its_depth_from_the_tags(tmp_path, make_image):
    image = make_image(shape=(1, 6, 7))
    paths = write_series(image, tmp_path / "s")
    item = only_item(tmp_path)
    assert (item.status, codes(item)) == ("ok", {"single-slice"})
    assert read_series_geometry(item).same_grid(image.geometry)
    assert item.spacing_mm == pytest.approx((3.0, 0.8, 0.7))
    edit(paths, SliceThickness=None)
    assert only_item(tmp_path).spacing_mm == pytest.approx((1.0, 0.8, 0.7))


@pytest.mark.parametrize("keyword", ["PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"])
def test_geometry_is_never_invented(keyword, tmp_path, make_image):
    edit(write_series(make_image(), tmp_path / "s"), **{keyword: None})
    item = only_item(tmp_path)
    assert item.status == "refused"
    assert "no-geometry" in codes(item)
    with pytest.raises(InputError, match=keyword):
        read_series(tmp_path)


def test_each_slice_is_rescaled_by_its_own_tags(tmp_path, make_image):
    image = make_image()
    edit(write_series(image, tmp_path / "s"), RescaleSlope=lambda z: f"0.{z + 1}", RescaleIntercept=str)
    back = read_series(tmp_path)
    assert back.array.dtype == np.float32
    for z, plane in enumerate(back.array[0]):
        stored = image.array[0, z].astype(float) + 1024
        np.testing.assert_allclose(plane, stored * (z + 1) / 10 + z, rtol=1e-6)


@pytest.mark.parametrize(("slope", "intercept"), [("0", "0"), ("1", "1e999")])
def test_a_rescale_that_says_nothing_is_refused(slope, intercept, tmp_path, make_image):
    edit(write_series(make_image(), tmp_path / "s"), RescaleSlope=slope, RescaleIntercept=intercept)
    assert (only_item(tmp_path).status, codes(only_item(tmp_path))) == ("refused", {"bad-rescale"})


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("low", [-2000, 0])
def test_lossless_compression_changes_no_voxel(syntax, low, tmp_path, make_image):
    image = make_image(low=low, shape=(2, 70, 66))
    for path in write_series(image, tmp_path / "s", modality="MR"):
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(path)
    item = only_item(tmp_path)
    assert (item.status, item.transfer_syntax) == ("ok", str(syntax))
    np.testing.assert_array_equal(read_series(item).array, image.array)


def test_a_syntax_without_decoder_is_named(tmp_path, make_image):
    paths = write_series(make_image(), tmp_path / "s")
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.101"
        dataset.PixelData = pydicom.encaps.encapsulate([dataset.PixelData])
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(path)
    item = only_item(tmp_path)
    assert (item.status, codes(item)) == ("refused", {"undecodable"})
    assert "MPEG2" in item.reason


@pytest.mark.parametrize("syntax", [None, JPEG2000Lossless])
def test_truncated_files_are_found_without_decoding(syntax, tmp_path, make_image):
    paths = write_series(make_image(shape=(5, 70, 66)), tmp_path / "s")
    if syntax is not None:
        for path in paths:
            dataset = pydicom.dcmread(path)
            dataset.compress(syntax, generate_instance_uid=False)
            dataset.save_as(path)
    paths[3].write_bytes(paths[3].read_bytes()[:-30])
    item = only_item(tmp_path)
    assert (item.status, codes(item)) == ("refused", {"truncated"})
    assert "slice_0004" in item.reason


def test_damaged_pixels_are_found_by_decoding(tmp_path, make_image):
    paths = write_series(make_image(shape=(5, 70, 66)), tmp_path / "s")
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
        dataset.save_as(path)
    content = bytearray(paths[2].read_bytes())
    start = content.rindex(b"\xff\x4f\xff\x51")
    content[start : start + 40] = bytes(40)
    paths[2].write_bytes(content)
    assert only_item(tmp_path).status == "ok"
    (item,) = inspect_folder(tmp_path, deep=True).items
    assert (item.status, codes(item)) == ("refused", {"undecodable"})
    with pytest.raises(InputError, match="JPEG 2000"):
        read_series(tmp_path)


def test_progress_is_told_and_may_cancel(tmp_path, make_image):
    write_series(make_image(), tmp_path / "s")
    steps = []
    read_series(tmp_path, progress=steps.append)
    assert [(s.stage, s.done, s.total) for s in steps] == [("read", n, 5) for n in range(1, 6)]

    def stop(step):
        if step.done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        read_series(tmp_path, progress=stop)


def test_no_patient_attribute_leaves_the_files(tmp_path, make_image):
    paths = write_series(make_image(), tmp_path / "s", patient="Geheim^Gerda")
    edit(paths, PatientID="SECRET77", StudyDescription="SECRET77", PatientBirthDate="19330303")
    paths[2].unlink()
    text = str(inspect_folder(tmp_path / "s").to_json())
    with pytest.raises(InputError) as caught:
        read_series(tmp_path)
    for secret in ("Geheim", "Gerda", "SECRET77", "19330303"):
        assert secret not in text + str(caught.value)


def test_a_localizer_is_ignored_and_says_so(tmp_path, make_image):
    edit(write_series(make_image(), tmp_path / "s"), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert only_item(tmp_path).status == "ignored"
    with pytest.raises(InputError, match="localizer") as caught:
        read_series(Path(tmp_path))
    assert caught.value.code == "localizer"

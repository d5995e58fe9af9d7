from __future__ import annotations

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.io import write_segmentation, write_volume
from medseg.io.dicom import find_series, write_seg, write_series
from medseg.phantom import torso_ct
from napari_plugin.opening import may_be_ours, open_paths


@pytest.fixture
def study(tmp_path, torso):
    """Two series and a mask of the first in one folder."""
    write_series(torso.volume, tmp_path / "study" / "a")
    write_series(torso_ct(8, spacing_mm=(12.0, 9.0, 9.0)).volume, tmp_path / "study" / "b")
    write_seg(torso.segmentation, tmp_path / "study" / "seg.dcm", source=find_series(tmp_path / "study" / "a"))
    return tmp_path / "study"


def test_several_series_are_asked_about(study):
    asked = []

    def choose(offers):
        asked.extend(offers)
        return [offer for offer in offers if offer.kind == "mask" or "12 mm" in offer.words]

    layers = open_paths([study], choose=choose)
    assert sorted(offer.kind for offer in asked) == ["image", "image", "mask"]
    assert [layer.kind for layer in layers] == ["image", "labels"]


def test_without_a_window_no_series_wins_in_silence(study, torso):
    layers = open_paths([study])
    assert [layer.kind for layer in layers] == ["image", "image", "labels"]
    mask = layers[-1].arguments["metadata"]["medseg"]
    assert mask.geometry.same_grid(torso.volume.geometry)  # put on the series it was made from
    assert mask.series is not None


def test_a_series_that_needs_a_step_is_opened_only_when_allowed(tmp_path, torso):
    write_series(torso.volume, tmp_path / "gap")
    sorted((tmp_path / "gap").iterdir())[5].unlink()
    with pytest.raises(InputError, match="nothing here opens as it is"):
        open_paths([tmp_path / "gap"])
    (layer,) = open_paths([tmp_path / "gap"], choose=list)
    assert layer.array.shape == torso.volume.geometry.shape


def test_a_dialog_that_was_closed_opens_nothing(study):
    assert open_paths([study], choose=lambda offers: ()) == []


def test_files_named_as_masks_are_labels(tmp_path, torso):
    for name in ("case_seg.nii.gz", "Label-2.nrrd", "segmentation.mha"):
        write_segmentation(torso.segmentation, tmp_path / name)
        assert open_paths([tmp_path / name])[0].kind == "labels"
    write_volume(torso.volume, tmp_path / "scan.nii")
    write_volume(torso.volume, tmp_path / "mask_of_hu.nii")  # negative values are no labels
    assert [open_paths([tmp_path / name])[0].kind for name in ("scan.nii", "mask_of_hu.nii")] == ["image", "image"]


def test_what_is_not_ours_is_declined_cheaply(tmp_path, study):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "notes.txt").write_text("x")
    assert not may_be_ours(tmp_path / "texts")
    assert may_be_ours(study)
    for dicom in study.rglob("*.dcm"):
        dicom.rename(dicom.with_suffix(""))
    assert may_be_ours(study)


def test_a_file_of_several_volumes_is_a_layer_each(tmp_path, torso):
    from medseg.volume import Volume

    array = np.concatenate([torso.volume.array, torso.volume.array + 1])
    write_volume(Volume(array, torso.volume.geometry, ("a", "b")), tmp_path / "two.nii.gz")
    assert [layer.arguments["name"] for layer in open_paths([tmp_path / "two.nii.gz"])] == [
        "two image_0",
        "two image_1",
    ]

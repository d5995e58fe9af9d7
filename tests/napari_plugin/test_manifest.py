from __future__ import annotations

import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.io import read_segmentation
from medseg.io.dicom import find_series, read_seg, write_series

if TYPE_CHECKING:
    from pathlib import Path


def test_npe2_validates_the_manifest(manifest):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "npe2", "validate", str(manifest), "--imports"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_says_where_its_manifest_is(manifest):
    project = tomllib.loads((manifest.parents[1] / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["napari.manifest"] == {"medseg": "napari_plugin:napari.yaml"}
    assert "napari_plugin" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def test_every_command_can_be_imported(medseg_plugin):
    from npe2.manifest.utils import import_python_name

    for command in medseg_plugin.manifest.contributions.commands:
        assert callable(import_python_name(command.python_name))


@pytest.fixture
def saved(tmp_path, medseg_plugin, torso):
    """Write a mask by napari's own way and say where."""
    import npe2

    from napari_plugin.bridge import labels_layer
    from napari_plugin.source import Source

    def save(name: str, series=None) -> Path:
        of = Source("scan", torso.volume.geometry, "CT", series)
        layer = labels_layer(torso.segmentation, name="mask", of=of)
        npe2.write(tmp_path / name, [tuple(layer)])
        return tmp_path / name

    return save


@pytest.mark.parametrize("name", ["mask.nii.gz", "mask.nii", "mask.nrrd", "mask.mha"])
def test_masks_are_saved_on_their_scans_grid(saved, torso, name):
    back = read_segmentation(saved(name))
    assert back.geometry.same_grid(torso.segmentation.geometry)
    np.testing.assert_array_equal(back.array, torso.segmentation.array)


def test_a_mask_is_saved_as_dicom_seg_where_its_series_is_known(saved, torso, tmp_path):
    write_series(torso.volume, tmp_path / "dicom")
    series = find_series(tmp_path / "dicom")
    back = read_seg(saved("mask.dcm", series), onto=series.geometry)
    np.testing.assert_array_equal(back.array, torso.segmentation.array)
    assert back.labels.names == torso.segmentation.labels.names


def test_a_mask_without_a_series_is_no_dicom_seg(saved):
    with pytest.raises(InputError, match="not made from a DICOM series"):
        saved("mask.dcm")


def test_napari_reads_by_us(medseg_plugin, torso, tmp_path):
    import npe2

    write_series(torso.volume, tmp_path / "dicom")
    ((array, arguments, kind),) = npe2.read([str(tmp_path / "dicom")], stack=False)
    assert (kind, array.shape) == ("image", torso.volume.geometry.shape)
    assert arguments["name"].startswith("ct-")


@pytest.mark.parametrize("key", ["torso_ct", "head_mr"])
def test_sample_data_is_a_scan_and_its_truth(medseg_plugin, key):
    from npe2.manifest.utils import import_python_name

    sample = next(s for s in medseg_plugin.manifest.contributions.sample_data if s.key == key)
    command = next(c for c in medseg_plugin.manifest.contributions.commands if c.id == sample.command)
    image, truth = import_python_name(command.python_name)()
    assert (image.kind, truth.kind) == ("image", "labels")
    assert image.array.shape == truth.array.shape

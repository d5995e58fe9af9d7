from __future__ import annotations

import itertools

import numpy as np
import pytest

from medseg.errors import GeometryError
from medseg.geometry import Geometry
from medseg.io import read_segmentation, read_volume, write_segmentation, write_volume
from medseg.io.dicom import find_series, read_seg, write_seg, write_series
from medseg.volume import Volume
from napari_plugin.bridge import image_layers, labels_layer, segmentation_of, volume_of
from napari_plugin.contrast import CT_WINDOWS, contrast_window
from napari_plugin.opening import open_paths
from napari_plugin.planes import camera_of, directions_of, keep_upright, show_plane
from napari_plugin.source import source_of


@pytest.fixture
def viewer():
    from napari.components import ViewerModel

    return ViewerModel()


def added(viewer, layers):
    from napari.layers import Layer

    return [viewer.add_layer(Layer.create(*layer)) for layer in layers]


def at_world(layer, world):
    """Return the value under a point of the world, as napari's status line reads it."""
    return layer.data[tuple(np.rint(layer.world_to_data(world)).astype(int))]


@pytest.fixture
def both_ways(tmp_path, torso):
    """One scan and its mask as DICOM and as NIfTI."""
    folder = tmp_path / "dicom"
    write_series(torso.volume, folder)
    write_volume(torso.volume, tmp_path / "scan.nii.gz")
    write_segmentation(torso.segmentation, tmp_path / "mask.nii.gz")
    write_seg(torso.segmentation, tmp_path / "seg.dcm", source=find_series(folder))
    return tmp_path


def test_one_scan_as_dicom_and_as_nifti_coincide_in_the_world(both_ways, viewer, torso):
    dicom, nifti = added(viewer, open_paths([both_ways / "dicom"]) + open_paths([both_ways / "scan.nii.gz"]))
    np.testing.assert_allclose(dicom.extent.world, nifti.extent.world, atol=1e-2)
    rng = np.random.default_rng(0)
    for index in rng.integers(0, torso.volume.geometry.shape, (40, 3)):
        world = torso.volume.geometry.to_lps(index)[::-1]
        assert at_world(dicom, world) == at_world(nifti, world) == torso.volume.array[0][tuple(index)]
    assert [str(unit) for unit in dicom.units] == ["millimeter"] * 3
    assert dicom.axis_labels == ("z", "y", "x")


def test_one_mask_as_seg_and_as_nifti_coincide_in_the_world(both_ways, viewer, torso):
    seg, nifti = added(viewer, open_paths([both_ways / "seg.dcm"]) + open_paths([both_ways / "mask.nii.gz"]))
    assert type(seg) is type(nifti)
    rng = np.random.default_rng(1)
    for index in rng.permutation(np.argwhere(torso.segmentation.array))[:60]:
        world = torso.segmentation.geometry.to_lps(index)[::-1]
        truth = torso.segmentation.array[tuple(index)]
        assert at_world(seg, world) == at_world(nifti, world) == truth


@pytest.mark.parametrize("codes", ["SPL", "LIP", "AIR"])
def test_a_landmark_clicked_reads_its_lps(viewer, torso, codes):
    """The heart's centre and the liver's, by the mask's own voxels, under every order of axes."""
    from medseg.resample import resample

    scan = resample(torso.segmentation, onto=torso.segmentation.geometry.reoriented(codes))
    (layer,) = added(viewer, [labels_layer(scan, name="truth")])
    for label in ("heart", "liver"):
        centre = torso.segmentation.geometry.to_lps(
            np.argwhere(torso.segmentation.array == torso.segmentation.labels.by_name(label).id)
        ).mean(axis=0)
        seen = np.argwhere(layer.data == scan.labels.by_name(label).id).mean(axis=0)
        np.testing.assert_allclose(layer.data_to_world(seen)[::-1], centre, atol=1e-3)
        np.testing.assert_allclose(source_of(layer).display.to_lps(layer.data_to_world(seen)), centre, atol=1e-3)


def test_a_scan_is_shown_without_a_copy(viewer, torso):
    (layer,) = added(viewer, image_layers(torso.volume, name="scan"))
    assert np.shares_memory(layer.data, torso.volume.array)
    assert volume_of([layer]).geometry.same_grid(torso.volume.geometry)
    assert np.shares_memory(volume_of([layer]).array, torso.volume.array)


def test_painting_on_an_oblique_scan_stays_on_its_own_grid(viewer, tmp_path, turned):
    from medseg.labels import LabelSet
    from medseg.volume import Segmentation

    grid = turned((6, 7, 8), (3.0, 2.0, 1.0), 25.0).reoriented("LIP")
    mask = Segmentation(np.zeros(grid.shape, np.uint8), grid, LabelSet.from_names({1: "lesion"}))
    (layer,) = added(viewer, [labels_layer(mask, name="mine")])
    assert "degrees" in layer.metadata["note"]
    spot = source_of(layer).display.to_world((3, 2, 5))
    layer.data[tuple(np.rint(layer.world_to_data(spot)).astype(int))] = 1
    back = segmentation_of(layer)
    assert np.argwhere(back.array).tolist() == [[3, 2, 5]]
    write_segmentation(back, tmp_path / "mask.nii.gz")
    assert read_segmentation(tmp_path / "mask.nii.gz").geometry.same_grid(grid)


def test_names_and_colours_go_with_a_mask(viewer, torso):
    (layer,) = added(viewer, [labels_layer(torso.segmentation, name="truth")])
    assert list(layer.features["name"])[:2] == ["background", "liver"]
    np.testing.assert_allclose(layer.colormap.color_dict[1][:3], np.array((178, 102, 76)) / 255, atol=1e-6)
    assert segmentation_of(layer).labels == torso.segmentation.labels
    layer.data = layer.data.copy()  # the phantom is every test's
    layer.data[0, 0, 0] = 77
    assert segmentation_of(layer).labels[77].name == "label_77"


def test_a_layer_of_napari_itself_is_taken_where_it_lies(viewer):
    layer = viewer.add_image(np.zeros((3, 4, 5), np.float32), scale=(3.0, 2.0, 1.0), translate=(10.0, 20.0, 30.0))
    grid = source_of(layer).geometry
    np.testing.assert_allclose(grid.to_lps((1, 1, 1)), (31.0, 22.0, 13.0))
    flat = viewer.add_image(np.zeros((4, 5), np.float32), scale=(2.0, 1.0))
    assert volume_of([flat]).array.shape == (1, 1, 4, 5)


def test_a_layer_that_was_moved_is_refused(viewer, torso):
    (layer,) = added(viewer, image_layers(torso.volume, name="scan"))
    layer.translate = (0.0, 0.0, 25.0)
    with pytest.raises(GeometryError, match="moved away"):
        volume_of([layer])


def test_channels_from_several_layers_come_onto_the_first_grid(viewer):
    fine = Geometry((4, 6, 6), np.array([[0, 0, 1, 0], [0, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1.0]]))
    coarse = fine.with_spacing((2.0, 2.0, 2.0))
    scans = [Volume(np.full((1, *g.shape), v, np.float32), g, ("MR",)) for v, g in ((1, fine), (2, coarse))]
    layers = [added(viewer, image_layers(scan, name="s"))[0] for scan in scans]
    both = volume_of(layers)
    assert both.geometry.same_grid(fine)
    assert both.array[:, 2, 2, 2].tolist() == [1.0, 2.0]


def test_a_colour_picture_keeps_its_colours(viewer, tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    (layer,) = added(viewer, open_paths([tmp_path / "photo.png"]))
    assert layer.rgb
    np.testing.assert_array_equal(layer.data[0], pixels)
    np.testing.assert_array_equal(volume_of([layer]).array, read_volume(tmp_path / "photo.png").array)


def test_windows_by_modality():
    rng = np.random.default_rng(0)
    mr = rng.gamma(2.0, 100.0, (4, 50, 60)).astype(np.float32)
    (low, high), ends = contrast_window(mr, "MR")
    assert ends[0] <= low < high < ends[1]
    ct = np.full((2, 3, 4), -1000, np.int16)
    assert contrast_window(ct, "")[0] == CT_WINDOWS["soft tissue"]
    assert contrast_window(ct.astype(np.float32), "MR")[0] == (-1000.0, -999.0)
    assert contrast_window(np.full((1, 2, 2), np.nan, np.float32), "MR")[0] == (0.0, 1.0)


def test_every_plane_stands_upright_and_a_scan_comes_in_its_own(viewer, torso):
    keep_upright(viewer)
    keep_upright(viewer)
    assert sum(type(c).__name__ == "_Turn" for c in viewer.dims.events.order.callbacks) == 1
    from medseg.resample import resample

    coronal = resample(torso.volume, onto=torso.volume.geometry.reoriented("PIL"))
    (layer,) = added(viewer, image_layers(coronal, name="coronal"))
    assert viewer.dims.order == (1, 0, 2)
    directions = {}
    for plane in ("axial", "coronal", "sagittal"):
        show_plane(viewer, plane)
        directions[plane] = [str(d) for d in camera_of(viewer).orientation2d]
    assert directions == {"axial": ["down", "right"], "coronal": ["up", "right"], "sagittal": ["up", "right"]}
    show_plane(viewer, "axial")
    viewer.dims.ndisplay = 3
    assert [str(d) for d in camera_of(viewer).orientation] == ["away", "down", "right"]
    assert layer.contrast_limits_range == [-1024.0, 3071.0]
    assert tuple(layer.contrast_limits) == CT_WINDOWS["soft tissue"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_no_plane_and_no_turned_volume_is_a_mirror_image(order):
    """x times y is z, by where the axes run on the screen (right, up, towards the eye)."""
    run = {"right": (1, 0, 0), "up": (0, 1, 0), "down": (0, -1, 0), "towards": (0, 0, 1), "away": (0, 0, -1)}
    axes = dict(zip(order, (run[word] for word in directions_of(order)), strict=True))
    np.testing.assert_array_equal(np.cross(axes[2], axes[1]), axes[0])


def test_a_written_seg_lies_on_its_series(both_ways, torso):
    grid = find_series(both_ways / "dicom").geometry
    assert read_seg(both_ways / "seg.dcm", onto=grid).geometry.same_grid(torso.volume.geometry)

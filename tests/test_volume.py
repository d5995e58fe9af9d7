"""Images and masks: shapes agree and every value has a meaning, or there is no object."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.errors import GeometryError, InputError
from medseg.geometry import Geometry
from medseg.labels import LabelSet
from medseg.volume import Segmentation, Volume, values_in

GRID = Geometry((2, 3, 4), np.diag([2.0, 1.0, 0.5, 1.0]))
LABELS = LabelSet.from_names({1: "a", 7: "b", 300: "c"})


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 2, 3, 5), (1, 4, 3, 2), (1, 1, 2, 3, 4)])
def test_an_image_of_another_shape_is_refused(shape: tuple):
    with pytest.raises(GeometryError, match="shape"):
        Volume(np.zeros(shape), GRID)


@pytest.mark.parametrize("names", [(), ("a", "b")])
def test_channels_have_one_name_each(names: tuple):
    with pytest.raises(GeometryError, match="channel names"):
        Volume(np.zeros((1, 2, 3, 4)), GRID, names)


@pytest.mark.parametrize("dtype", ["bool", "complex64", "S1", "O", "M8[s]"])
def test_voxels_are_numbers(dtype: str):
    with pytest.raises(InputError, match="type"):
        Volume(np.zeros((1, 2, 3, 4), dtype), GRID)
    with pytest.raises(InputError, match="type"):
        Segmentation(np.zeros((2, 3, 4), dtype), GRID, LABELS)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int64", "float32"])
def test_masks_are_unsigned(dtype: str):
    with pytest.raises(InputError, match="unsigned"):
        Segmentation(np.zeros((2, 3, 4), dtype), GRID, LABELS)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
def test_a_value_without_a_label_is_refused(dtype: str):
    array = np.zeros((2, 3, 4), dtype)
    array[1, 2, 3] = 2
    with pytest.raises(InputError, match="value 2; expected 0 or one of 1, 7, 300"):
        Segmentation(array, GRID, LABELS)
    with pytest.raises(InputError, match="expected 0 or one of no label"):
        Segmentation(array, GRID, LabelSet(()))


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(GeometryError, match="shape"):
        Segmentation(np.zeros((1, 2, 3, 4), np.uint8), GRID, LABELS)


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64"])
def test_voxels_are_counted_in_every_type_and_memory_order(dtype: str):
    array = np.zeros((4, 3, 2), dtype).transpose(2, 1, 0)
    array[0, :, 1], array[1, 0, 0] = 7, 300
    mask = Segmentation(array, GRID, LABELS)
    assert mask.voxel_counts() == {1: 0, 7: 3, 300: 1}
    assert mask.volumes_ml() == pytest.approx({1: 0.0, 7: 0.003, 300: 0.001})
    assert values_in(array) == (0, 7, 300)


def test_an_empty_mask_without_labels_counts_nothing():
    mask = Segmentation(np.zeros((2, 3, 4), np.uint8), GRID, LabelSet(()))
    assert mask.voxel_counts() == {}
    assert values_in(mask.array) == (0,)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_values_are_those_of_numpy(dtype: str):
    array = np.random.default_rng(0).integers(0, 250, (5, 6, 7)).astype(dtype)
    assert values_in(array) == tuple(np.unique(array).tolist())


def test_there_is_no_arithmetic_and_no_indexing():
    scan = Volume(np.zeros((1, 2, 3, 4)), GRID)
    for action in (lambda: scan + 1, lambda: scan[0]):
        with pytest.raises(TypeError):
            action()
    with pytest.raises(AttributeError):
        scan.array = np.ones((1, 2, 3, 4))

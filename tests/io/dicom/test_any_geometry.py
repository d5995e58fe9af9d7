"""Any grid written as a DICOM series is read back in the same place, voxel by voxel, however it is filed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pydicom
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medseg.geometry import Geometry
from medseg.io.dicom import inspect_folder, read_series, write_series
from medseg.volume import Volume

angles = st.floats(-180, 180)
spacings = st.floats(0.2, 8)


@st.composite
def grids(draw):
    """Any rotation, spacing and place, left- and right-handed, upright or tilted by up to 30 degrees."""
    rotation = Rotation.from_euler("xyz", draw(st.tuples(angles, angles, angles)), degrees=True).as_matrix()
    slices, row, column = draw(st.tuples(spacings, spacings, spacings))
    normal, down, right = rotation[:, 2], rotation[:, 1], rotation[:, 0]
    step = normal * slices * draw(st.sampled_from((1.0, -1.0)))
    step = step + down * slices * np.tan(np.deg2rad(draw(st.just(0.0) | st.floats(-30, 30))))
    affine = np.eye(4)
    affine[:3, :3] = np.stack([step, down * row, right * column], axis=1)
    affine[:3, 3] = draw(st.tuples(*[st.floats(-900, 900)] * 3))
    shape = draw(st.tuples(st.integers(2, 5), st.integers(2, 6), st.integers(2, 6)))
    return Geometry(shape, affine)


@settings(max_examples=60)
@given(geometry=grids(), seed=st.integers(0, 2**16), intercept=st.integers(-2000, 2000))
def test_a_series_lies_where_it_was_written(geometry, seed, intercept):
    values = np.random.default_rng(seed).permutation(np.prod(geometry.shape)).astype(np.int16)  # no two alike
    volume = Volume(values.reshape(1, *geometry.shape), geometry, ("CT",))
    with tempfile.TemporaryDirectory() as place:
        files = list(write_series(volume, Path(place) / "written"))
        for path in files:
            dataset = pydicom.dcmread(path)
            dataset.RescaleIntercept = int(dataset.RescaleIntercept) + intercept
            dataset.save_as(path)
        shuffled(files, seed)
        (item,) = inspect_folder(Path(place)).items
        found = read_series(item)
    assert item.status == "ok"
    assert same_world(volume, found, intercept)


def shuffled(files, seed):
    """Give the files names that tell nothing about their order."""
    names = [f"{n:04d}" for n in np.random.default_rng(seed).permutation(len(files))]
    for path, name in zip(files, names, strict=True):
        path.rename(path.with_name(name))


def same_world(written, found, intercept, tol_mm=2e-3):
    """Tell whether each voxel has its partner at the same place with the same value; orders of slices may differ."""
    index = np.stack(np.meshgrid(*map(np.arange, written.geometry.shape), indexing="ij"), axis=-1)
    exact = found.geometry.to_index(written.geometry.to_lps(index))
    nearest = np.rint(exact).astype(int)
    off_mm = np.abs((exact - nearest) @ found.geometry.affine[:3, :3].T).max()
    partners = found.array[0][tuple(np.moveaxis(nearest, -1, 0))]
    return off_mm <= tol_mm and np.array_equal(partners, written.array[0].astype(int) + intercept)

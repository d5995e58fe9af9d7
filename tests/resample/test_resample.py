"""The one spatial operation: exact where voxels coincide, equal to ITK and SciPy where they do not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import GeometryError, InputError
from medseg.geometry import Box, Geometry
from medseg.labels import LabelSet
from medseg.resample import resample
from medseg.volume import Segmentation, Volume

LABELS = LabelSet.from_names({1: "a", 2: "b", 3: "c", 60000: "far"})
CODES = ["".join(p) for axes in itertools.permutations(["LR", "AP", "SI"]) for p in itertools.product(*axes)]


def grid(shape=(7, 9, 11), spacing=(2.5, 0.8, 1.1), angle=0.0, origin=(-30.0, 12.5, 100.0)) -> Geometry:
    """Return a grid, turned by `angle` degrees about a skew axis."""
    k = np.array([1.0, -2.0, 0.5]) / np.linalg.norm([1.0, -2.0, 0.5])
    cross = np.array([[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]])
    a = np.deg2rad(angle)
    turned = np.eye(3) + np.sin(a) * cross + (1 - np.cos(a)) * cross @ cross
    affine = np.eye(4)
    affine[:3, :3] = turned @ np.eye(3)[:, ::-1] * spacing
    affine[:3, 3] = origin
    return Geometry(shape, affine)


def scan(geometry: Geometry, dtype="int16", seed=0, channels=1) -> Volume:
    rng = np.random.default_rng(seed)
    array = rng.normal(0, 400, (channels, *geometry.shape)).astype(dtype)
    return Volume(array, geometry, tuple(f"c{i}" for i in range(channels)))


def mask(geometry: Geometry, seed=0) -> Segmentation:
    """Return blobs of four labels that touch each other."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.normal(size=geometry.shape), 1.2) for _ in range(5)]
    ids = np.array([0, 1, 2, 3, 60000], np.uint16)
    return Segmentation(ids[np.argmax(fields, axis=0)], geometry, LABELS)


def to_sitk(array_zyx: np.ndarray, geometry: Geometry) -> sitk.Image:
    image = sitk.GetImageFromArray(array_zyx)
    return placed(image, geometry)


def placed(image: sitk.Image, geometry: Geometry) -> sitk.Image:
    image.SetOrigin(geometry.origin_lps.tolist())
    image.SetSpacing(geometry.spacing_mm[::-1])
    image.SetDirection(geometry.directions_lps[:, ::-1].ravel().tolist())
    return image


def by_sitk(volume: Volume, onto: Geometry, interpolator: int, fill: float) -> np.ndarray:
    reference = placed(sitk.Image(list(onto.shape[::-1]), sitk.sitkFloat32), onto)
    image = to_sitk(volume.array[0].astype(np.float32), volume.geometry)
    return sitk.GetArrayFromImage(sitk.Resample(image, reference, sitk.Transform(), interpolator, fill))


# -- exact copies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [0.0, 31.0])
@pytest.mark.parametrize("codes", CODES)
def test_turning_there_and_back_changes_no_bit(codes: str, angle: float):
    source = scan(grid(angle=angle), channels=2)
    there = resample(source, onto=source.geometry.reoriented(codes))
    assert there.array.dtype == np.int16
    assert there.geometry.axis_codes == codes
    back = resample(there, onto=source.geometry)
    assert np.array_equal(back.array, source.array)
    assert back.channels == source.channels
    index = np.array([2, 5, 8])
    moved = np.rint(there.geometry.to_index(source.geometry.to_lps(index))).astype(int)
    assert there.array[(1, *moved)] == source.array[(1, *index)]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "float32"])
def test_copies_keep_their_type(dtype: str):
    source = scan(grid(), dtype)
    assert resample(source, onto=source.geometry.crop(Box((1, 2, 3), (4, 5, 6)))).array.dtype == dtype


@given(
    codes=st.sampled_from(CODES),
    start=st.tuples(*[st.integers(-4, 8)] * 3),
    size=st.tuples(*[st.integers(1, 12)] * 3),
    stride=st.tuples(*[st.integers(1, 3)] * 3),
    fill=st.sampled_from([None, -1024.0, 0.5, 1e6]),
)
@settings(max_examples=200)
def test_any_copy_agrees_with_looking_voxels_up(codes, start, size, stride, fill):
    source = scan(grid(shape=(5, 6, 4), angle=17.0))
    turned = source.geometry.reoriented(codes)
    affine = turned.affine.copy()
    affine[:3, 3] = turned.to_lps(start)
    affine[:3, :3] *= stride
    target = Geometry(size, affine)
    result = resample(source, onto=target, fill=fill)
    index = source.geometry.to_index(target.to_lps(np.stack(np.indices(size), axis=-1)))
    assert np.allclose(index, np.rint(index), atol=1e-6)
    index = np.rint(index).astype(int)
    clipped = np.clip(index, 0, np.array(source.geometry.shape) - 1)
    expected = source.array[0][tuple(np.moveaxis(clipped, -1, 0))].astype(np.float64)
    if fill is not None:
        expected[(index != clipped).any(axis=-1)] = fill
    assert np.array_equal(result.array[0], expected)
    is_outside = bool((index != clipped).any())
    fits = fill in (None, -1024.0) or not is_outside
    assert result.array.dtype == (np.int16 if fits else np.float32)


def test_rounding_of_headers_is_still_a_copy():
    source = scan(grid())
    off = source.geometry.affine.copy()
    off[:3, 3] += 4e-4  # the noise of decimal strings
    assert np.array_equal(resample(source, onto=Geometry(source.geometry.shape, off)).array, source.array)
    off[:3, 3] += 4e-3
    assert resample(source, onto=Geometry(source.geometry.shape, off)).array.dtype == np.float32


def test_a_small_turn_of_a_long_volume_is_not_a_copy():
    source = scan(Geometry((2, 2, 400), np.eye(4)))
    affine = source.geometry.affine.copy()
    affine[1, 2] = 1e-4  # 0.04 voxels at the far end
    assert resample(source, onto=Geometry((2, 2, 400), affine)).array.dtype == np.float32


def test_one_slice_of_another_thickness_is_a_copy():
    source = scan(grid())
    affine = source.geometry.affine.copy()
    affine[:3, 0] *= 3.7
    affine[:3, 3] = source.geometry.to_lps([4, 0, 0])
    result = resample(source, onto=Geometry((1, *source.geometry.shape[1:]), affine))
    assert np.array_equal(result.array[0], source.array[0, 4:5])


def test_results_never_share_memory():
    source, labels = scan(grid()), mask(grid())
    assert not np.shares_memory(resample(source, onto=source.geometry).array, source.array)
    assert not np.shares_memory(resample(labels, onto=labels.geometry).array, labels.array)
    assert resample(source, onto=source.geometry.reoriented("LPI")).array.flags.c_contiguous


def test_frames_of_reference_are_the_callers_knowledge():
    source = scan(grid())
    other = Geometry(source.geometry.shape, source.geometry.affine, "1.2.3")
    result = resample(source, onto=other)
    assert result.geometry.frame_of_reference_uid == "1.2.3"


# -- interpolated images -------------------------------------------------------------------------------------------

TARGETS = {
    "finer": grid().with_spacing((1.1, 0.5, 0.7)),
    "coarser": grid().with_spacing((5.0, 1.9, 2.3)),
    "turned-and-finer": grid().with_spacing((1.1, 0.5, 0.7)).reoriented("RSA"),
    "shifted": grid(shape=(5, 6, 7), origin=(-28.77, 13.9, 103.3)),
    "reaching-out": grid(shape=(6, 6, 6), spacing=(4, 4, 4), origin=(-36.0, 8.0, 95.0)),
    "oblique": grid(shape=(6, 7, 8), angle=25.0, origin=(-28.0, 14.0, 103.0)),
    "one-slice": grid(shape=(1, 8, 8), origin=(-28.7, 13.0, 107.3)),
}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
def test_linear_images_equal_simpleitks(target: Geometry):
    source = scan(grid())
    result = resample(source, onto=target, fill=-7777.0)
    assert result.array.dtype == np.float32
    assert result.geometry is target
    expected = by_sitk(source, target, sitk.sitkLinear, -7777.0)
    assert np.allclose(result.array[0], expected, atol=0.02)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
@pytest.mark.parametrize("order", [1, 3])
def test_both_ways_of_interpolating_equal_scipy(target: Geometry, order: int):
    from scipy import ndimage

    source = scan(grid())
    result = resample(source, onto=target, order=order)
    index = source.geometry.to_index(target.to_lps(np.stack(np.indices(target.shape), axis=-1)))
    expected = ndimage.map_coordinates(
        source.array[0].astype(np.float64), np.moveaxis(index, -1, 0), order=order, mode="nearest"
    )
    assert np.allclose(result.array[0], expected, atol=0.01)


def test_cubic_images_equal_simpleitks_away_from_the_border():
    smooth = scan(grid(shape=(24, 26, 28)))
    target = grid(shape=(8, 8, 8), spacing=(2.2, 0.7, 0.9), origin=tuple(smooth.geometry.to_lps([8.3, 9.2, 9.7])))
    result = resample(smooth, onto=target, order=3)
    expected = by_sitk(smooth, target, sitk.sitkBSpline, 0.0)
    assert np.allclose(result.array[0], expected, atol=0.5)  # ITK's mirrored border, 8 voxels away, is felt at 0.03 %


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
@pytest.mark.parametrize("order", [1, 3])
def test_a_constant_stays_constant_and_a_ramp_a_ramp(target: Geometry, order: int):
    source = grid(shape=(20, 20, 20), origin=(-40.0, 5.0, 80.0))
    constant = Volume(np.full((1, *source.shape), 37, np.int16), source)
    assert np.allclose(resample(constant, onto=target, order=order).array, 37.0, atol=1e-3)
    ramp = Volume((source.to_lps(np.stack(np.indices(source.shape), -1)) @ [1.0, 2.0, 3.0]).astype("f4")[None], source)
    inside = source.to_index(target.to_lps(np.stack(np.indices(target.shape), -1)))
    away = ((inside > 6) & (inside < np.array(source.shape) - 7)).all(axis=-1)
    found = resample(ramp, onto=target, order=order).array[0]
    truth = target.to_lps(np.stack(np.indices(target.shape), -1)) @ [1.0, 2.0, 3.0]
    tolerance = 1e-2 if order == 1 else 0.2  # a cubic spline feels the bend of the clamped edge some voxels away
    assert np.allclose(found[away], truth[away], atol=tolerance)


def test_axis_by_axis_and_oblique_agree():
    from medseg.resample.images import AlongAxes, Obliquely
    from medseg.resample.lattice import Lattice

    source = scan(grid())
    for target, order, fill in itertools.product(TARGETS.values(), (1, 3), (None, -5.0)):
        lattice = Lattice.between(source.geometry, target)
        steps = lattice.steps()
        if steps is None:
            assert target is TARGETS["oblique"]
            continue
        along_axes = AlongAxes(steps, source.geometry.shape, order=order, fill=fill)
        one = along_axes.slices(source.array[0], 0, target.shape[0])
        other = Obliquely(lattice, order=order, fill=fill).slices(source.array[0], 0, target.shape[0])
        assert np.allclose(one, other, atol=0.01)


def test_outside_is_the_edge_or_the_fill():
    source = Volume(np.array([10.0, 20.0], np.float32).reshape(1, 1, 1, 2), Geometry((1, 1, 2), np.eye(4)))
    affine = source.geometry.affine.copy()
    affine[:3, 2] /= 4.0
    affine[:3, 3] = source.geometry.to_lps([0, 0, -1.0])
    target = Geometry((1, 1, 13), affine)  # positions -1, -0.75 ... 2 along x
    edge = [10.0] * 5 + [12.5, 15.0, 17.5] + [20.0] * 5
    assert resample(source, onto=target).array.ravel().tolist() == edge
    filled = [-1.0] * 2 + edge[2:11] + [-1.0] * 2  # the outer faces are at -0.5 and 1.5
    assert resample(source, onto=target, fill=-1.0).array.ravel().tolist() == filled


def test_a_target_wholly_outside():
    source = scan(grid())
    far = grid(origin=(1000.0, 1000.0, 1000.0))
    assert (resample(source, onto=far, fill=-3.0).array == -3).all()
    assert np.isfinite(resample(source, onto=far).array).all()
    assert (resample(mask(grid()), onto=far).array == 0).all()
    turned = grid(origin=(1000.0, 1000.0, 1000.0), angle=20)
    assert (resample(source, onto=turned, fill=-3.0).array == -3).all()
    assert (resample(mask(grid()), onto=turned).array == 0).all()


def test_numbers_that_are_not_finite_are_copied_but_not_interpolated():
    source = scan(grid(), "float32")
    source.array[0, 0, 0, 0] = np.nan
    assert np.isnan(resample(source, onto=source.geometry.reoriented("LPS")).array).sum() == 1
    with pytest.raises(InputError, match="not finite"):
        resample(source, onto=TARGETS["finer"])


def test_whole_numbers_survive_interpolation_at_voxel_centres():
    source = scan(grid())
    affine = source.geometry.affine.copy()
    affine[:3, 2] /= 2.0
    z, y, x = source.geometry.shape
    finer = Geometry((z, y, 2 * x - 1), affine)
    for order in (1, 3):
        result = resample(source, onto=finer, order=order).array
        assert np.allclose(result[..., ::2], source.array, atol=1e-2)


def test_wrong_requests_are_refused():
    with pytest.raises(GeometryError, match="order 2"):
        resample(scan(grid()), onto=TARGETS["finer"], order=2)
    with pytest.raises(GeometryError, match="mask is background"):
        resample(mask(grid()), onto=TARGETS["finer"], fill=1.0)


# -- interpolated masks --------------------------------------------------------------------------------------------


def by_indicators(labels: Segmentation, onto: Geometry) -> np.ndarray:
    """Return the label rule worked out the long way: an interpolated indicator per label, then the largest."""
    from scipy import ndimage

    source = labels.geometry
    index = source.to_index(onto.to_lps(np.stack(np.indices(onto.shape), axis=-1)))
    ids = np.array([0, *labels.labels.ids])
    indicators = ((labels.array == i).astype(np.float64) for i in ids)
    at = np.moveaxis(index, -1, 0)
    weights = np.stack([ndimage.map_coordinates(one, at, order=1, mode="nearest") for one in indicators])
    inside = ((index >= -0.5 - 1e-3) & (index <= np.array(source.shape) - 0.5 + 1e-3)).all(axis=-1)
    return np.where(inside, ids[np.argmax(np.round(weights, 9), axis=0)], 0)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_masks_follow_the_label_rule(target: Geometry, seed: int):
    labels = mask(grid(), seed)
    result = resample(labels, onto=target)
    assert result.array.dtype == np.uint16
    assert result.labels is LABELS
    assert np.array_equal(result.array, by_indicators(labels, target))


def test_ties_go_to_the_lower_id():
    labels = Segmentation(np.array([3, 2], np.uint8).reshape(1, 1, 2), Geometry((1, 1, 2), np.eye(4)), LABELS)
    affine = np.eye(4)
    affine[:3, 3] = labels.geometry.to_lps([0, 0, 0.5])
    assert resample(labels, onto=Geometry((1, 1, 1), affine)).array.item() == 2


def test_a_label_in_the_majority_beats_two_others():
    """Weights 0.4, 0.3, 0.3: the largest single one wins although the others together are more."""
    labels = Segmentation(np.array([[[1, 2], [3, 3]]], np.uint8), Geometry((1, 2, 2), np.eye(4)), LABELS)
    affine = np.eye(4)
    affine[:3, 3] = labels.geometry.to_lps([0, 0.4, 0.5])
    assert resample(labels, onto=Geometry((1, 1, 1), affine)).array.item() == 3


def test_a_mask_taken_to_a_finer_grid_and_back_is_the_same():
    labels = mask(grid())
    spacing = np.array(labels.geometry.spacing_mm) / 3.0  # an odd factor: every old centre is a new centre
    finer = labels.geometry.with_spacing(spacing)
    assert np.array_equal(resample(resample(labels, onto=finer), onto=labels.geometry).array, labels.array)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_masks_keep_their_type_and_invent_no_label(dtype: str):
    array = (mask(grid()).array % 4).astype(dtype)
    labels = Segmentation(array, grid(), LABELS)
    result = resample(labels, onto=TARGETS["oblique"])
    assert result.array.dtype == dtype
    assert set(np.unique(result.array)) <= {0, 1, 2, 3}


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 1), (1, 6, 7), (4, 1, 3)])
def test_thin_volumes(shape: tuple[int, int, int]):
    source = grid(shape=shape)
    target = source.with_spacing(np.array(source.spacing_mm) / 2.0)
    labels = Segmentation(np.full(shape, 2, np.uint8), source, LABELS)
    assert (resample(labels, onto=target).array == 2).all()
    image = Volume(np.full((1, *shape), 5, np.int16), source)
    for order in (1, 3):
        assert np.allclose(resample(image, onto=target, order=order).array, 5.0)


def test_slabs_do_not_show(monkeypatch: pytest.MonkeyPatch):
    from medseg.resample import cells

    labels = mask(grid())
    for target in (TARGETS["finer"], TARGETS["oblique"]):
        whole = resample(labels, onto=target).array
        with monkeypatch.context() as patch:
            patch.setattr(cells, "CHUNK_VOXELS", 1)
            assert np.array_equal(resample(labels, onto=target).array, whole)

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.special import softmax

from medseg.errors import InputError, ModelError
from medseg.geometry import Box, Geometry
from medseg.labels import LabelSet
from medseg.plan import ClipZScore, Plan, Rescale, ZScore
from medseg.preprocess import Probabilities, Restoration, WorkingImage, prepare, prepare_mask, restore, working_grid
from medseg.resample import resample
from medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medseg.plan import Normalisation

LABELS = LabelSet.from_names({1: "ball", 5: "shell"})
CENTRE_LPS = np.array([3.0, -7.0, 11.0])
RADII_MM = np.array([18.0, 14.0, 11.0])
ALL_CODES = [
    "".join(letters) for order in itertools.permutations(("RL", "AP", "IS")) for letters in itertools.product(*order)
]


def plan_of(spacing_mm: tuple[float, float, float], *, dimensions: int = 3, orientation: str = "SPL") -> Plan:
    patch = [8, 8, 8] if dimensions == 3 else [1, 8, 8]
    return Plan.from_document(
        {
            "channels": ["MR"],
            "labels": LABELS.to_json(),
            "preprocess": {
                "orientation": orientation,
                "spacing_mm": list(spacing_mm),
                "normalisation": [{"kind": "zscore"}],
            },
            "network": {
                "dimensions": dimensions,
                "features": [4, 8],
                "strides": [[1] * dimensions, [2] * dimensions],
                "kernels": [[3] * dimensions] * 2,
            },
            "train": {"patch_size": patch, "batch_size": 2},
        }
    )


def rotation(*angles_deg: float) -> NDArray[np.float64]:
    total = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(angles_deg)):
        a, b = [i for i in range(3) if i != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        total = total @ turn
    return total


def grid_around(steps: NDArray[np.float64], shape: tuple[int, int, int]) -> Geometry:
    """A grid with columns `steps` (mm along z, y, x index) whose middle is the ellipsoid's."""
    affine = np.eye(4)
    affine[:3, :3] = steps
    affine[:3, 3] = CENTRE_LPS + np.array([0.3, -0.2, 0.4]) - steps @ ((np.array(shape) - 1) / 2)
    return Geometry(shape, affine)


UPRIGHT = np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])
TILT = np.array([[0.0, 0, 1], [0.25, 1, 0], [1, 0, 0]])
GRIDS = {
    "isotropic": grid_around(UPRIGHT, (40, 44, 52)),
    "anisotropic": grid_around(UPRIGHT * [4.0, 0.8, 0.8], (12, 56, 64)),
    "flipped": grid_around(UPRIGHT * [-1.5, -1.0, 1.2], (30, 44, 46)),
    "sagittal": grid_around(np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]) * [1.5, 1, 1], (36, 40, 48)),
    "oblique": grid_around(rotation(15, -25, 38) @ UPRIGHT * [1.6, 1.0, 0.9], (38, 56, 64)),
    "tilted": grid_around(TILT * [2.0, 1.0, 1.0], (24, 44, 52)),
}


def depth(points_lps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positive inside the ellipsoid, 0 on its surface."""
    return 1.0 - np.linalg.norm((points_lps - CENTRE_LPS) / RADII_MM, axis=-1)


def depth_on(grid: Geometry) -> NDArray[np.float32]:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
    return depth(grid.to_lps(index)).astype(np.float32)


def scores_on(grid: Geometry) -> Volume:
    """Scores whose winner is the ball inside the ellipsoid, the shell between it and one 1.2 times as large."""
    d = depth_on(grid)
    return Volume(np.stack([-0.2 - d, d, -np.abs(d + 0.1) + 0.1]), grid, ("background", "ball", "shell"))


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.3, 1.1)])
def test_there_and_back_keeps_volume_and_place(name: str, spacing: tuple[float, float, float]) -> None:
    scan = GRIDS[name]
    grid = working_grid(scan, plan_of(spacing))
    assert grid.axis_codes == "SPL"
    assert not grid.is_sheared
    mask = restore(scores_on(grid), scan, LABELS)
    assert mask.geometry is scan
    truth_ml = 4 / 3 * np.pi * RADII_MM.prod() / 1000
    assert mask.volumes_ml()[1] == pytest.approx(truth_ml, rel=0.03)
    centroid = scan.to_lps(np.argwhere(mask.array == 1).mean(axis=0))
    assert np.abs(centroid - CENTRE_LPS).max() < 0.5
    exact = depth_on(scan) > 0
    overlap = 2 * (exact & (mask.array == 1)).sum() / (exact.sum() + (mask.array == 1).sum())
    assert overlap > 0.97


@pytest.mark.parametrize("name", GRIDS)
def test_a_scan_itself_comes_back_in_place(name: str) -> None:
    scan = GRIDS[name]
    image = Volume(depth_on(scan)[None], scan, ("MR",))
    prepared = prepare(image, plan_of((1.2, 1.2, 1.2)))
    assert prepared.geometry.same_grid(working_grid(scan, plan_of((1.2, 1.2, 1.2))))
    level = (0.0 - image.array.mean()) / image.array.std()
    signed = prepared.array[0] - level
    scores = Volume(np.stack([-signed, signed, np.full_like(signed, -9)]), prepared.geometry, ("0", "1", "5"))
    mask = restore(scores, scan, LABELS)
    centroid = scan.to_lps(np.argwhere(mask.array == 1).mean(axis=0))
    assert np.abs(centroid - CENTRE_LPS).max() < 1.5


def test_all_48_orientations_give_the_same_mask_in_the_patient() -> None:
    stored = Geometry((5, 6, 7), np.array([[0, 0, 1.0, 4], [0, 1.5, 0, 5], [2, 0, 0, 6], [0, 0, 0, 1]]))
    rng = np.random.default_rng(0)
    scan = Volume(rng.normal(size=(1, 5, 6, 7)).astype(np.float32), stored)
    plan = plan_of((2.0, 1.5, 1.0))
    first = prepare(scan, plan)
    scores = Volume(rng.normal(size=(3, *first.geometry.shape)).astype(np.float32), first.geometry, ("0", "1", "5"))
    mask = restore(scores, stored, LABELS)
    assert len(set(ALL_CODES)) == 48
    for codes in ALL_CODES:
        turned = resample(scan, onto=stored.reoriented(codes))
        again = prepare(turned, plan)
        np.testing.assert_array_equal(again.array, first.array)
        assert again.geometry.same_grid(first.geometry)
        there = restore(scores, turned.geometry, LABELS)
        np.testing.assert_array_equal(there.array, resample(mask, onto=turned.geometry).array)


def brute_force(scores: Volume, onto: Geometry) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The largest of all fully interpolated scores, and where it is clear which one that is."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in onto.shape), indexing="ij"), axis=-1)
    at = np.moveaxis(scores.geometry.to_index(onto.to_lps(index)), -1, 0)
    full = np.stack([map_coordinates(s.astype(np.float64), at, order=1, mode="nearest") for s in scores.array])
    ranked = np.sort(full, axis=0)
    inside = np.all([(a > -0.499) & (a < n - 0.501) for a, n in zip(at, scores.geometry.shape, strict=True)], axis=0)
    outside = np.any([(a < -0.501) | (a > n - 0.499) for a, n in zip(at, scores.geometry.shape, strict=True)], axis=0)
    winner = np.where(outside, 0, full.argmax(axis=0))
    return winner, (inside & (ranked[-1] - ranked[-2] > 1e-4)) | outside


@pytest.mark.parametrize("name", GRIDS)
def test_skipping_uniform_cells_changes_nothing(name: str) -> None:
    scan = GRIDS[name]
    rng = np.random.default_rng(1)
    coarse = grid_around(UPRIGHT * [3.3, 2.9, 3.1], (11, 13, 12))
    scores = Volume(rng.normal(size=(3, *coarse.shape)).astype(np.float32), coarse, ("0", "1", "5"))
    mask = restore(scores, scan, LABELS)
    winner, is_clear = brute_force(scores, scan)
    assert is_clear.mean() > 0.9
    np.testing.assert_array_equal(mask.array[is_clear], np.array([0, 1, 5])[winner[is_clear]])


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_mask_restored_slab_by_slab_is_the_mask_restored_at_once(name: str, depth: int) -> None:
    scan = GRIDS[name]
    rng = np.random.default_rng(2)
    for grid in (grid_around(UPRIGHT * [3.3, 2.9, 3.1], (11, 13, 12)), scan):  # interpolated, and copied
        scores = Volume(rng.normal(size=(3, *grid.shape)).astype(np.float32), grid, ("0", "1", "5"))
        restoration = Restoration(grid, scan, LABELS)
        winners = [
            restoration.add(torch.from_numpy(scores.array[:, z : z + depth])) for z in range(0, grid.shape[0], depth)
        ]
        np.testing.assert_array_equal(restoration.mask, restore(scores, scan, LABELS).array)
        np.testing.assert_array_equal(np.concatenate(winners), np.array([0, 1, 5])[scores.array.argmax(axis=0)])


def test_slabs_along_every_axis_of_the_scan_settle_every_voxel_once() -> None:
    grid = grid_around(UPRIGHT * 2.0, (9, 10, 11))
    for codes in ALL_CODES:
        scan = grid.reoriented(codes).with_spacing((1.3, 1.7, 0.9))
        restoration = Restoration(grid, scan, LABELS, out=np.full(scan.shape, 99, np.uint8))
        for _ in range(9):
            restoration.add(torch.tensor([0.0, 0.0, 1.0]).reshape(3, 1, 1, 1).expand(3, 1, 10, 11))
        assert (restoration.mask == 5).all()


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("how", [ZScore(), Rescale(), ClipZScore(low=-0.5, high=1, mean=0.2, std=0.3)])
def test_an_image_made_by_slices_is_the_image_made_at_once(name: str, how: Normalisation) -> None:
    scan = GRIDS[name]
    plan = plan_of((0.6, 1.1, 1.2))
    plan = plan.model_copy(update={"preprocess": plan.preprocess.model_copy(update={"normalisation": (how,)})})
    volume = Volume(depth_on(scan)[None], scan, ("MR",))
    whole = prepare(volume, plan).array
    depth = whole.shape[1]
    assert depth > 40
    for held in (True, False):
        image = WorkingImage(volume, plan, held=held)
        found = [image.slices(z, min(z + 13, depth)) for z in range(0, depth, 13)]
        np.testing.assert_array_equal(torch.cat(found, dim=1), whole)
        box = Box((3, 2, 4), (35, 20, 21))
        part = image.cropped(box)
        np.testing.assert_array_equal(part.whole(), whole[(slice(None), *box.slices)])
        np.testing.assert_array_equal(part.cropped(Box((1, 1, 1), (2, 3, 4))).whole(), whole[:, 4:5, 3:5, 5:8])
        assert part.geometry.same_grid(image.geometry.crop(box))


def test_outside_the_working_grid_is_background() -> None:
    small = Geometry((4, 4, 4), np.eye(4))
    scores = np.zeros((3, 4, 4, 4), dtype=np.float32)
    scores[1] = 1
    for step in (1.0, 0.5):
        affine = np.diag([step, step, step, 1.0])
        affine[:3, 3] = -5 - (1 - step) / 2  # no voxel centre on a face
        mask = restore(Volume(scores, small, ("0", "1", "5")), Geometry((30, 30, 30), affine), LABELS)
        assert mask.volumes_ml()[1] == pytest.approx(0.064, rel=0.01)


def test_scores_must_be_one_a_class() -> None:
    grid = Geometry((2, 2, 2), np.eye(4))
    with pytest.raises(ModelError, match="2 scores"):
        restore(Volume(np.zeros((2, 2, 2, 2), np.float32), grid, ("0", "1")), grid, LABELS)


@pytest.mark.parametrize("name", GRIDS)
def test_probabilities_are_the_softmax_of_interpolated_scores(name: str) -> None:
    scan = GRIDS[name]
    scores = scores_on(working_grid(scan, plan_of((2.0, 2.0, 2.0))))
    found = np.full((3, *scan.shape), np.nan, np.float32)
    probabilities = Probabilities(scores.geometry, scan, found)
    for start in range(0, scores.geometry.shape[0], 3):
        probabilities.add(torch.from_numpy(scores.array[:, start : start + 3]))
    full = resample(scores, onto=scan).array
    np.testing.assert_allclose(found, softmax(full, axis=0), atol=1e-5)


def test_nothing_is_interpolated_where_the_spacing_rounds_to_the_scans_own() -> None:
    scan = Geometry((20, 20, 20), np.diag([1.01, 0.99, 1.0, 1.0]))
    image = Volume(np.arange(8000, dtype=np.int16).reshape(1, 20, 20, 20), scan)
    prepared = prepare(image, plan_of((1.0, 1.0, 1.0)))
    assert prepared.array.dtype == np.float32
    assert len(np.unique(prepared.array)) == 8000
    assert float(prepared.array.mean()) == pytest.approx(0, abs=1e-5)
    assert float(prepared.array.std()) == pytest.approx(1, abs=1e-5)


def test_slices_of_a_2d_network_keep_their_distance() -> None:
    grid = working_grid(GRIDS["anisotropic"], plan_of((1.0, 1.6, 1.6), dimensions=2))
    assert grid.spacing_mm == pytest.approx((4.0, 1.6, 1.6), rel=0.02)
    assert grid.shape[0] == 12


def test_stored_orientation_stays() -> None:
    grid = working_grid(GRIDS["sagittal"], plan_of((1.5, 1.0, 1.0), orientation="stored"))
    assert grid.axis_codes == GRIDS["sagittal"].axis_codes


def test_masks_go_the_same_way_as_their_image() -> None:
    scan, plan = GRIDS["oblique"], plan_of((2.0, 1.0, 1.0))
    ids = np.where(depth_on(scan) > 0, 5, 0).astype(np.uint8)
    mask = prepare_mask(Segmentation(ids, scan, LABELS), plan)
    assert mask.geometry.same_grid(working_grid(scan, plan))
    assert mask.volumes_ml()[5] == pytest.approx(4 / 3 * np.pi * RADII_MM.prod() / 1000, rel=0.03)


def test_what_cannot_be_prepared_is_said_in_words() -> None:
    scan = Geometry((3, 3, 3), np.eye(4))
    with pytest.raises(InputError, match="2 channels"):
        prepare(Volume(np.zeros((2, 3, 3, 3), np.float32), scan, ("a", "b")), plan_of((1.0, 1.0, 1.0)))
    holed = np.zeros((1, 3, 3, 3), np.float32)
    holed[0, 1, 1, 1] = np.nan
    with pytest.raises(InputError, match="not finite"):
        prepare(Volume(holed, scan), plan_of((1.0, 1.0, 1.0)))
    huge = Geometry((512, 512, 512), np.diag([1e4, 1e4, 1e4, 1.0]))
    with pytest.raises(InputError, match="header"):
        working_grid(huge, plan_of((1.0, 1.0, 1.0)))

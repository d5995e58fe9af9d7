"""A mask in pieces: known numbers and sizes of touching discs and balls, on every grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg.errors import PlanError
from medseg.instances import components, watershed

MM = (1.0, 1.0, 1.0)


def balls(shape: tuple[int, ...], spacing_mm: tuple[float, ...], *drawn: tuple[tuple[float, ...], float]) -> Any:
    """Return balls of centres and radii in mm; a disc where the shape is flat."""
    places = np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing_mm, strict=True)), indexing="ij")
    return np.any([sum((p - c) ** 2 for p, c in zip(places, centre, strict=True)) <= r * r for centre, r in drawn], 0)


def sizes(numbers: Any) -> list[int]:
    return sorted(np.bincount(numbers.ravel())[1:].tolist())


def test_touching_discs_are_one_component_and_two_basins() -> None:
    drawn = [((0, 20, 20), 12.0), ((0, 20, 41), 10.0)]
    both = balls((1, 41, 61), MM, *drawn)
    alone = sorted(int(balls(both.shape, MM, one).sum()) for one in drawn)
    assert components(both).max() == 1
    parts = watershed(both, MM)
    assert np.array_equal(parts > 0, both)
    assert sizes(parts) == pytest.approx(alone, rel=0.05)


@pytest.mark.parametrize("spacing_mm", [MM, (2.5, 0.8, 0.8), (0.5, 1.0, 2.0)])
def test_touching_balls_come_apart_on_every_grid(spacing_mm: tuple[float, float, float]) -> None:
    shape = tuple(round(side / s) for side, s in zip((44, 44, 84), spacing_mm, strict=True))
    drawn = [((22, 22, 20), 14.0), ((22, 22, 45), 14.0), ((22, 22, 66), 10.0)]
    chain = balls(shape, spacing_mm, *drawn)
    assert components(chain).max() == 1
    parts = watershed(chain, spacing_mm)
    assert parts.max() == 3
    voxel_mm3 = float(np.prod(spacing_mm))
    volumes = [n * voxel_mm3 for n in sizes(parts)]
    assert volumes == pytest.approx([4 / 3 * np.pi * r**3 for r in (10, 14, 14)], rel=0.12)


def test_distances_are_in_mm() -> None:
    tall = balls((1, 60, 20), MM, ((0, 15, 10), 9.0), ((0, 45, 10), 9.0))
    tall[0, 15:45, 2:19] = True  # a neck nearly as wide as the discs
    assert watershed(tall, MM).max() == 1
    narrow = tall.copy()
    narrow[0, 22:38, :5] = narrow[0, 22:38, 16:] = False
    assert watershed(narrow, MM).max() == 2
    assert watershed(narrow, (1.0, 1.0, 50.0)).max() == watershed(narrow, (1.0, 0.02, 1.0)).max()  # a ratio of mm


def test_the_same_scene_in_other_units_comes_apart_alike() -> None:
    rng = np.random.default_rng(4)
    scene = balls((1, 90, 90), MM, *[((0, *rng.uniform(8, 82, 2)), rng.uniform(4, 9)) for _ in range(25)])
    expected = watershed(scene, MM)
    assert expected.max() > components(scene).max()
    assert np.array_equal(watershed(scene, (0.25, 0.25, 0.25)), expected)


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(0, 7)] * 3))
def test_moving_a_scene_moves_its_pieces(seed: int, shift: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    spacing = (2.0, 1.0, 1.0)
    scene = balls((12, 26, 26), spacing, *[(rng.uniform(4, 22, 3), rng.uniform(2, 6)) for _ in range(6)])
    moved = np.pad(scene, [(s, 8 - s) for s in shift])
    for take_apart in (components, lambda mask: watershed(mask, spacing)):
        whole = take_apart(moved)
        assert np.array_equal(
            whole[tuple(slice(s, s + n) for s, n in zip(shift, scene.shape, strict=True))], take_apart(scene)
        )


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from([6, 18, 26]))
def test_pieces_part_the_mask_and_lie_within_components(seed: int, connectivity: int) -> None:
    noise = np.random.default_rng(seed).random((6, 14, 14)) > 0.5
    whole, parts = components(noise, connectivity=connectivity), watershed(noise, MM, connectivity=connectivity)
    oracle = ndimage.label(noise, ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity]))[1]
    assert whole.max() == oracle
    assert np.array_equal(parts > 0, noise)
    assert len(np.unique(np.stack([whole[noise], parts[noise]]), axis=1).T) == parts.max() >= whole.max()
    firsts = [int(np.flatnonzero(parts == n)[0]) for n in range(1, parts.max() + 1)]
    assert firsts == sorted(firsts)


def test_the_flood_is_that_of_another_implementation() -> None:
    segmentation = pytest.importorskip("skimage.segmentation")
    morphology = pytest.importorskip("skimage.morphology")
    rng = np.random.default_rng(1)
    scene = balls((1, 120, 120), MM, *[((0, *rng.uniform(10, 110, 2)), rng.uniform(6, 12)) for _ in range(30)])
    padded = np.pad(scene[0], 1)
    smooth = ndimage.gaussian_filter(ndimage.distance_transform_edt(padded), 1.0, mode="constant")
    relief = np.where(padded, np.log(np.where(padded, smooth, 1)), -100)
    tops = morphology.reconstruction(relief + np.log(0.9), relief, footprint=np.ones((3, 3)))
    seeds = ndimage.label(morphology.local_maxima(tops, connectivity=2) & padded, np.ones((3, 3)))[0]
    theirs = segmentation.watershed(-relief, seeds, mask=padded, connectivity=2)[1:-1, 1:-1]
    ours = watershed(scene, MM)[0]
    assert ours.max() == theirs.max() > components(scene).max()
    pairs, shared = np.unique(np.stack([ours[scene[0]], theirs[scene[0]]]), axis=1, return_counts=True)
    best = sum(shared[pairs[0] == n].max() for n in range(1, ours.max() + 1))
    assert best >= 0.99 * scene.sum()  # plateaus may be shared out otherwise


def test_seeds_that_are_too_near_are_one() -> None:
    both = balls((1, 41, 61), MM, ((0, 20, 20), 12.0), ((0, 20, 41), 10.0))  # middles 21 mm apart
    assert watershed(both, MM, minimum_distance_mm=19.0).max() == 2
    assert watershed(both, MM, minimum_distance_mm=23.0).max() == 1
    assert watershed(both, (1.0, 0.5, 0.5), minimum_distance_mm=19.0).max() == 1


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (1, 9, 9), (5, 5, 5)])
def test_an_image_that_is_all_object_is_one(shape: tuple[int, int, int]) -> None:
    assert np.array_equal(watershed(np.ones(shape, bool), MM), np.ones(shape))
    assert watershed(np.zeros(shape, bool), MM).max() == 0


@pytest.mark.parametrize("wrong", [{"neck": 0.0}, {"neck": 1.0}, {"minimum_distance_mm": -1.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(PlanError, match="expected"):
        watershed(np.ones((1, 3, 3), bool), MM, **wrong)

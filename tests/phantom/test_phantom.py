"""Phantoms: the same seed gives the same patient on any grid, left is left, and volumes are what they should be."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from scipy import ndimage

from medseg.errors import GeometryError
from medseg.geometry import Geometry
from medseg.phantom import HEAD_LABELS, TORSO_LABELS, Phantom, ellipsoid, ellipsoid_ml, head_mr, torso_ct
from medseg.phantom.scanner import ct_noise

COARSE = (8.0, 6.0, 6.0)
DEMO = (5.5, 4.2, 4.2)
SEEDS = range(12)
LUNGS = ("lung_left", "lung_right")


@functools.cache
def torso(seed: int, spacing_mm: tuple[float, float, float] = COARSE) -> Phantom:
    return torso_ct(seed, spacing_mm=spacing_mm)


def hu(phantom: Phantom, name: str, *, erode: bool = False) -> np.ndarray:
    inside = phantom.segmentation.array == phantom.segmentation.labels.by_name(name).id
    return phantom.volume.array[0][ndimage.binary_erosion(inside) if erode else inside]


def centre_lps(phantom: Phantom, name: str) -> np.ndarray:
    label = phantom.segmentation.labels.by_name(name).id
    return phantom.volume.geometry.to_lps(np.argwhere(phantom.segmentation.array == label)).mean(axis=0)


def turned(base: Geometry, degrees: float) -> Geometry:
    """The grid turned about its centre, around the patient's z and then x axis, grown to keep the body in."""
    grown = base.pad((8, 6, 6), (8, 6, 6))
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    affine = np.array(grown.affine)
    middle = grown.to_lps((np.array(grown.shape) - 1) / 2)
    affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(grown.shape) - 1) / 2)
    return Geometry(grown.shape, affine)


# -- every patient --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
def test_every_torso_has_all_organs_of_human_size(seed: int) -> None:
    phantom = torso(seed)
    assert phantom.volume.array.dtype == np.int16
    assert phantom.volume.channels == ("CT",)
    assert phantom.volume.geometry.frame_of_reference_uid is None
    assert phantom.segmentation.labels is TORSO_LABELS
    ml = {label.name: phantom.segmentation.volumes_ml()[label.id] for label in TORSO_LABELS}
    assert 900 < ml["liver"] < 3600
    assert 90 < ml["spleen"] < 450
    assert 80 < ml["kidney_left"] < 300
    assert 80 < ml["kidney_right"] < 300
    assert 300 < ml["heart"] < 1000
    assert 400 < ml["spine"] < 1100
    assert all(500 < ml[lung] < 3500 for lung in LUNGS)


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_lie_on_their_side_of_the_patient(seed: int) -> None:
    phantom = torso(seed)
    middle_x = centre_lps(phantom, "spine")[0]
    for left in ("spleen", "kidney_left", "lung_left", "heart"):
        assert centre_lps(phantom, left)[0] > middle_x + 8, left
    for right in ("liver", "kidney_right", "lung_right"):
        assert centre_lps(phantom, right)[0] < middle_x - 8, right
    heart, spine, kidney = (centre_lps(phantom, name) for name in ("heart", "spine", "kidney_left"))
    assert heart[2] > kidney[2] + 80
    assert heart[1] < spine[1] - 30


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_are_one_piece(seed: int) -> None:
    phantom = torso(seed, DEMO)
    for label in TORSO_LABELS:
        inside = phantom.segmentation.array == label.id
        parts, count = ndimage.label(inside, structure=np.ones((3, 3, 3)))
        largest = max(np.bincount(parts.ravel())[1:], default=0)
        assert largest > 0.97 * inside.sum(), (label.name, count)


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_lie_in_the_body_and_the_table_lies_outside(seed: int) -> None:
    phantom = torso(seed, DEMO)
    image = phantom.volume.array[0]
    dense = image > -350
    parts, _ = ndimage.label(dense)
    body = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
    filled = np.stack([ndimage.binary_fill_holes(ndimage.binary_closing(s, iterations=2)) for s in body])
    organs = phantom.segmentation.array > 0
    assert (organs & ~filled).sum() < 0.002 * organs.sum()
    table = dense & ~filled
    assert table.sum() > 200  # the shell is there, and no voxel joins it to the body
    y = phantom.volume.geometry.to_lps(np.argwhere(table))[:, 1]
    assert (y > centre_lps(phantom, "spine")[1] + 20).mean() > 0.98


def test_air_around_the_body_is_air() -> None:
    image = torso(3, DEMO).volume.array[0]
    assert abs(np.median(image[:, 0, :]) + 1000) < 3
    assert image.min() >= -1024
    assert image.max() < 1500


# -- densities ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
def test_densities_are_those_of_tissue(seed: int) -> None:
    phantom = torso(seed, DEMO)
    mean = {name: float(hu(phantom, name, erode=True).mean()) for name in TORSO_LABELS.names}
    assert 25 < mean["liver"] < 145
    assert 35 < mean["spleen"] < 150
    assert 15 < mean["kidney_left"] < 240
    assert abs(mean["kidney_left"] - mean["kidney_right"]) < 25
    assert all(-920 < mean[lung] < -700 for lung in LUNGS)
    assert 35 < mean["heart"] < 170
    assert 150 < mean["spine"] < 420
    noise = [hu(phantom, name, erode=True).std() for name in ("liver", "spleen")]
    assert all(6 < sd < 40 for sd in noise)
    assert hu(phantom, "spine").max() > 300  # cortical bone


def test_contrast_phases_occur_and_organs_overlap_in_density() -> None:
    phantoms = [torso(seed, DEMO) for seed in SEEDS]
    kidney = np.array([hu(p, "kidney_left", erode=True).mean() for p in phantoms])
    assert (kidney < 60).any()
    assert (kidney > 110).any()
    liver = np.array([hu(p, "liver", erode=True).mean() for p in phantoms])
    spleen = np.array([hu(p, "spleen", erode=True).mean() for p in phantoms])
    assert (np.abs(liver - spleen) < 15).any()  # density alone does not tell them apart
    assert np.ptp(liver) > 40


def test_patients_differ() -> None:
    volumes = np.array([list(torso(seed).segmentation.volumes_ml().values()) for seed in SEEDS])
    assert (volumes.std(axis=0) / volumes.mean(axis=0) > 0.04).all()
    centres = np.array([centre_lps(torso(seed), "kidney_left") - centre_lps(torso(seed), "spine") for seed in SEEDS])
    assert (centres.std(axis=0) > 2.0).all()


def test_noise_grows_towards_the_middle_of_the_body() -> None:
    geometry = torso(2, DEMO).volume.geometry
    image = np.full(geometry.shape, -1000.0, np.float32)
    image[:, 15:-15, 15:-15] = 40
    noise = ct_noise(image, geometry, 15.0, np.random.default_rng(1))
    nz, ny, nx = geometry.shape
    middle = noise[nz // 4 : -nz // 4, ny // 2 - 8 : ny // 2 + 8, nx // 2 - 8 : nx // 2 + 8].std()
    edge = noise[:, :6, :].std()
    assert middle == pytest.approx(15.0, rel=0.25)
    assert middle > 1.8 * edge
    assert abs(noise.mean()) < 0.5


# -- one patient, many grids ----------------------------------------------------------------------------------
def test_the_same_seed_gives_the_same_voxels() -> None:
    once, again = torso_ct(5, spacing_mm=COARSE), torso_ct(5, spacing_mm=COARSE)
    assert np.array_equal(once.volume.array, again.volume.array)
    assert np.array_equal(once.segmentation.array, again.segmentation.array)
    assert once.volume.geometry.same_grid(again.volume.geometry, tol_mm=0)
    assert not np.array_equal(once.segmentation.volumes_ml(), torso(6).segmentation.volumes_ml())


def test_a_drawn_grid_differs_between_patients_and_holds_in_its_bounds() -> None:
    grids = [torso_ct(seed).volume.geometry for seed in (1, 2, 3)]
    assert len({g.spacing_mm for g in grids}) == 3
    for grid in grids:
        dz, dy, dx = grid.spacing_mm
        assert 3 <= dz <= 6
        assert 2.8 <= dy <= 4.5
        assert dy == dx
        assert grid.axis_codes == "SPL"


@pytest.mark.parametrize("seed", [1, 8])
@pytest.mark.parametrize("kind", ["finer", "flipped", "oblique", "tilted"])
def test_truth_agrees_between_grids(seed: int, kind: str) -> None:
    # A box that holds all organs whole, but for lungs and spine, which any scan of the trunk cuts.
    base = torso(seed, (5.0, 4.0, 4.0))
    grid = base.volume.geometry
    tilted = torso_ct(seed, spacing_mm=(5.0, 4.0, 4.0), tilt_deg=12).volume.geometry
    other = {
        "finer": grid.with_spacing((3.3, 3.0, 2.7)),
        "flipped": grid.reoriented("LAI"),
        "oblique": turned(grid, 17.0),
        "tilted": tilted.pad((10, 0, 0), (10, 0, 0)),
    }[kind]
    sampled = torso_ct(seed, geometry=other)
    assert sampled.volume.geometry is other
    for name in ("liver", "spleen", "kidney_left", "kidney_right", "heart"):
        label = TORSO_LABELS.by_name(name).id
        expected, found = (p.segmentation.volumes_ml()[label] for p in (base, sampled))
        if kind in {"finer", "flipped"} or not _touches_ends(base, label):
            assert found == pytest.approx(expected, rel=0.03), name
            assert centre_lps(sampled, name) == pytest.approx(centre_lps(base, name), abs=1.0), name
            assert np.median(hu(sampled, name)) == pytest.approx(np.median(hu(base, name)), abs=6.0), name


def test_flipped_grid_holds_the_very_same_truth() -> None:
    base = torso(4)
    flipped = torso_ct(4, geometry=base.volume.geometry.reoriented("IAR"))
    assert (flipped.segmentation.array[::-1, ::-1, ::-1] != base.segmentation.array).mean() < 1e-4  # float32 rounding


def test_shape_and_tilt_are_obeyed() -> None:
    phantom = torso_ct(2, shape=(20, 40, 48), tilt_deg=-10)
    assert phantom.volume.geometry.shape == (20, 40, 48)
    assert phantom.volume.geometry.is_sheared
    assert set(phantom.segmentation.voxel_counts().values()) & {0} == set()
    both = torso_ct(2, shape=(6, 8, 10), spacing_mm=(9, 8, 8)).volume.geometry
    assert both.shape == (6, 8, 10)
    assert both.spacing_mm == pytest.approx((9, 8, 8))


@pytest.mark.parametrize(
    "wrong",
    [
        {"spacing_mm": (0, 4, 4)},
        {"spacing_mm": (5, 4)},
        {"spacing_mm": (5, float("nan"), 4)},
        {"shape": (10, -3, 10)},
        {"spacing_mm": (0.001, 0.001, 0.001)},
        {"spacing_mm": (5, 5, 5), "tilt_deg": 80},
    ],
)
def test_impossible_grids_are_refused(wrong: dict) -> None:
    with pytest.raises(GeometryError):
        torso_ct(1, **wrong)


def _touches_ends(phantom: Phantom, label: int) -> bool:
    mask = phantom.segmentation.array == label
    return bool(mask[:2].any() or mask[-2:].any())


# -- head -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(4))
def test_every_head_has_its_parts_on_their_sides(seed: int) -> None:
    phantom = head_mr(seed, spacing_mm=(3, 2.5, 2.5))
    assert phantom.volume.array.dtype == np.int16
    ml = {label.name: phantom.segmentation.volumes_ml()[label.id] for label in HEAD_LABELS}
    assert 900 < ml["white_matter"] + ml["grey_matter"] < 1800
    assert ml["grey_matter"] > 250
    assert 5 < ml["ventricles"] < 90
    assert 2.5 < ml["hippocampus_left"] < 9
    assert 2.5 < ml["hippocampus_right"] < 9
    assert centre_lps(phantom, "hippocampus_left")[0] > centre_lps(phantom, "hippocampus_right")[0] + 35
    white, grey, fluid = (np.median(hu(phantom, n)) for n in ("white_matter", "grey_matter", "ventricles"))
    assert white > 1.15 * grey > 1.5 * fluid
    assert phantom.volume.array[0][0, 0].mean() > 0  # Rician noise has no zero mean


def test_heads_repeat_and_agree_between_grids() -> None:
    base, again = (head_mr(3, spacing_mm=(3, 3, 3)) for _ in range(2))
    assert np.array_equal(base.volume.array, again.volume.array)
    fine = head_mr(3, geometry=base.volume.geometry.with_spacing((2, 2, 2)))
    for label in HEAD_LABELS:
        expected, found = (p.segmentation.volumes_ml()[label.id] for p in (base, fine))
        assert found == pytest.approx(expected, rel=0.06), label.name


# -- ellipsoid ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "steps",
    [
        np.diag([2.0, 1.0, 1.5])[::-1],
        np.diag([1.5, -1.5, 1.5]),
        np.array([[0.3, 0.1, 1.2], [0.2, 1.3, -0.1], [2.4, -0.2, 0.3]]),
        np.array([[0, 0, 1.2], [0, 1.2, 0], [2.0, 0.3, 0]]),
    ],
    ids=["anisotropic", "flipped", "oblique and sheared", "gantry"],
)
def test_ellipsoid_has_the_volume_of_the_formula_and_the_place_it_was_given(steps: np.ndarray) -> None:
    shape = (60, 90, 90)
    affine = np.eye(4)
    affine[:3, :3] = steps
    centre = np.array([12.0, -30.0, 7.0])
    affine[:3, 3] = centre - steps @ ((np.array(shape) - 1) / 2)
    grid = Geometry(shape, affine)
    phantom = ellipsoid(grid, centre, (22, 16, 27), degrees=(10, 20, -30), inside=60, outside=-900)
    assert phantom.segmentation.volumes_ml()[1] == pytest.approx(ellipsoid_ml((22, 16, 27)), rel=0.01)
    assert centre_lps(phantom, "ellipsoid") == pytest.approx(centre, abs=0.1)
    assert set(np.unique(phantom.volume.array)) == {-900, 60}


def test_ellipsoid_of_no_size_is_refused() -> None:
    with pytest.raises(GeometryError, match="radii"):
        ellipsoid(Geometry((4, 4, 4), np.eye(4)), (0, 0, 0), (1, 0, 1))


# -- codes ----------------------------------------------------------------------------------------------------
def test_codes_mean_what_pydicom_says_they_mean() -> None:
    from pydicom.sr._concepts_dict import concepts

    known: dict[str, set[str]] = {}
    for entries in concepts["SCT"].values():
        for value, (meaning, _) in entries.items():
            known.setdefault(value, set()).add(meaning.lower())
    checked = [label for label in (*TORSO_LABELS, *HEAD_LABELS) if label.code and label.code.value in known]
    assert len(checked) >= 9
    for label in checked:
        assert label.code is not None
        assert label.code.meaning.lower() in known[label.code.value], label.name

"""A head MR, weighted like T1, with known truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.labels import Code, Label, LabelSet
from medseg.phantom.grids import grid_over
from medseg.phantom.scanner import bias_field, blurred, rician
from medseg.phantom.scene import Part, Phantom, Placement, render
from medseg.phantom.shapes import Points, Shape, ball, common, curve, grown, joined, tube, without
from medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.geometry import Geometry
    from medseg.phantom.shapes import Distance, Field

WHITE_MATTER, GREY_MATTER, VENTRICLES, HIPPOCAMPUS_LEFT, HIPPOCAMPUS_RIGHT = range(1, 6)
HEAD_LABELS = LabelSet(
    (
        Label(WHITE_MATTER, "white_matter", (226, 222, 204), Code("SCT", "389080008", "White Matter")),
        Label(GREY_MATTER, "grey_matter", (140, 140, 150), Code("SCT", "389081007", "Gray Matter")),
        Label(VENTRICLES, "ventricles", (70, 130, 200), Code("SCT", "35764002", "Brain ventricle")),
        Label(HIPPOCAMPUS_LEFT, "hippocampus_left", (232, 166, 60), Code("SCT", "5366008", "Hippocampus")),
        Label(HIPPOCAMPUS_RIGHT, "hippocampus_right", (110, 184, 84), Code("SCT", "5366008", "Hippocampus")),
    )
)
_LOW_MM, _HIGH_MM = (-88.0, -108.0, -110.0), (88.0, 114.0, 106.0)
_HEADROOM_MM = 4.0


@dataclass(frozen=True, slots=True)
class _Tissue:
    """Signal of the tissues, in the scanner's units."""

    white: float
    grey: float
    fluid: float
    fat: float
    muscle: float
    bone: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Tissue:
        gain = float(rng.uniform(0.5, 2.5))
        white, grey, fluid, fat, muscle, bone = gain * np.array([620, 450, 150, 860, 330, 45]) * rng.normal(1, 0.03, 6)
        return cls(white, grey, fluid, fat, muscle, bone)


def head_mr(
    seed: int,
    *,
    geometry: Geometry | None = None,
    shape: Sequence[int] | None = None,
    spacing_mm: Sequence[float] | None = None,
) -> Phantom:
    """Return a seeded head MR, weighted like T1, with its truth.

    Scalp, skull, brain with folded cortex, ventricles, deep nuclei and both hippocampi, under a smooth bias field and
    Rician noise. As in real MR the units are arbitrary: the gain differs between seeds.

    Parameters
    ----------
    seed : int
        Whole number from 0; the same seed gives the same head, on any grid, and on one grid the same voxels.
    geometry : Geometry, optional
        Grid to sample the head on. Without it an axial grid covers the head.
    shape : (Z, Y, X), optional
        Number of voxels, instead of `geometry`.
    spacing_mm : (Z, Y, X), optional
        Voxel size in mm, instead of `geometry`; about 2 mm unless given.

    Returns
    -------
    Phantom
        ``volume`` is int16, channel ``"MR"``; ``segmentation`` is uint8 with `HEAD_LABELS`.

    Raises
    ------
    GeometryError
        Where `shape` or `spacing_mm` make no grid.

    Examples
    --------
    >>> head = head_mr(1, spacing_mm=(8, 8, 8))
    >>> head.volume.channels, head.segmentation.labels.names[3]
    (('MR',), 'hippocampus_left')
    """
    rng = np.random.default_rng([seed, 11])
    placement = Placement.draw(
        rng, degrees=rng.normal(0, 3, 3), scale=rng.normal(1, 0.03, 3), shift_mm=rng.normal(0, 6, 3), warp_mm=1.5
    )
    tissue = _Tissue.draw(rng)
    parts = [*_shell_parts(rng, tissue), *_brain_parts(rng, tissue)]
    if geometry is None:
        centre = placement.to_patient(0.5 * (np.array(_LOW_MM) + _HIGH_MM))
        half = 0.5 * np.subtract(_HIGH_MM, _LOW_MM) / np.diag(placement.matrix) + _HEADROOM_MM
        wanted = spacing_mm if spacing_mm is not None or shape is not None else (2.0, 1.8, 1.8)
        geometry = grid_over(centre - half, centre + half, shape=shape, spacing_mm=wanted)
    image, mask = render(parts, geometry, placement, background=0.0)
    scan = np.random.default_rng([seed, 12])
    image = blurred(image, geometry, (0.3 * geometry.spacing_mm[0], 0.5, 0.5))
    image *= bias_field(geometry, 0.22, scan)
    stored = np.rint(rician(image, 0.035 * tissue.white, scan)).astype(np.int16)
    return Phantom(Volume(stored[None], geometry, ("MR",)), Segmentation(mask, geometry, HEAD_LABELS))


def _skull() -> Shape:
    """Return the outer face of the skull: vault and posterior fossa on a base that falls to the back."""
    base = Shape(lambda p: np.float32(0.93) * (np.float32(-22) - np.float32(0.38) * (p.y + 80) - p.z))
    return common(joined(ball((0, 4, 12), (71, 90, 76)), ball((0, 34, -30), (58, 54, 44)), blend_mm=20), base)


def _shell_parts(rng: np.random.Generator, tissue: _Tissue) -> list[Part]:
    """Return scalp, face, neck and skull."""
    scalp = float(rng.uniform(5, 8))
    skull = _skull()
    face = joined(ball((0, -50, -52), (54, 46, 58)), ball((0, -92, -42), (11, 13, 17)), blend_mm=12)
    neck = tube([(0, 30, -60), (0, 44, -200)], (52, 56))
    head = joined(grown(skull, scalp), face, neck, blend_mm=14)
    sinuses = [ball((side * 22, -66, -62), (12, 14, 14)) for side in (1, -1)]
    eyes = [ball((side * 31, -76, -30), (12.5, 12.5, 12.5)) for side in (1, -1)]
    return [
        Part(head, 0.5 * tissue.fat),
        Part(grown(head, -1.8), tissue.fat),
        Part(without(grown(head, -6), grown(skull, 2)), _muscle(tissue)),
        *(Part(common(grown(eye, 6), grown(head, -2)), tissue.fat) for eye in eyes),
        *(Part(eye, 0.9 * tissue.fluid) for eye in eyes),
        *(Part(grown(s, 1.5), tissue.bone) for s in sinuses),
        *(Part(s, 0.0) for s in sinuses),
        Part(tube([(0, -60, -48), (0, -8, -62), (0, 2, -200)], (8, 8, 9)), 0.0),
        Part(skull, tissue.bone),
        Part(without(grown(skull, -2.2), grown(skull, -4.2)), 0.55 * tissue.fat),
        Part(grown(skull, -6), tissue.fluid),
    ]


def _muscle(tissue: _Tissue) -> Distance:
    def texture(p: Points) -> Field:
        """Muscle bundles in fat."""
        bundles = np.sin(p.x / 6 + np.sin(p.z / 15)) * np.sin(p.y / 7) * np.sin(p.z / 17 + p.x / 12)
        out: Field = tissue.muscle + (tissue.fat - tissue.muscle) * np.clip(2 * (bundles - 0.25), 0, 1)
        return out

    return texture


def _brain_parts(rng: np.random.Generator, tissue: _Tissue) -> list[Part]:
    """Return cortex, white matter, nuclei, ventricles and hippocampi."""
    room = grown(_skull(), -8)
    tent = Shape(lambda p: np.float32(-12) + np.float32(0.18) * (p.y - 40) - p.z)
    temporal = [ball((side * 42, -6, -18), (22, 50, 30), degrees=(-14, 0, 0)) for side in (1, -1)]
    cerebrum = common(joined(common(room, tent), *temporal, blend_mm=6), room)
    fold = _folds(rng)
    cortex = Shape(
        lambda p: np.maximum(cerebrum.distance_mm(p) + 24 * np.clip(p.kept(fold) - 0.62, 0, 1), 1.4 - _from_fissure(p)),
        cerebrum.low,
        cerebrum.high,
    )
    white = Shape(
        lambda p: np.maximum(
            cerebrum.distance_mm(p) + 4.2 + 20 * np.clip(p.kept(fold) - 0.1, 0, 1), 4.4 - _from_fissure(p)
        ),
        cerebrum.low,
        cerebrum.high,
    )
    callosum = tube(list(curve([(0, -30, 12), (0, -36, 24), (0, -10, 34), (0, 22, 32), (0, 36, 20)], 15)), [4.5] * 15)
    cerebellum = common(joined(*(ball((side * 24, 46, -40), (31, 33, 28)) for side in (1, -1)), blend_mm=12), room)
    leaves = Shape(
        lambda p: cerebellum.distance_mm(p) + 6 + 3 * np.sin(np.hypot(p.y - 20, p.z + 30) / 1.9),
        cerebellum.low,
        cerebellum.high,
    )
    stem = joined(tube([(0, 14, -8), (0, 16, -34), (0, 28, -70), (0, 40, -140)], (11, 15, 9, 6)))
    parts = [
        Part(cortex, tissue.grey, GREY_MATTER),
        Part(white, tissue.white, WHITE_MATTER),
        Part(cerebellum, tissue.grey, GREY_MATTER),
        Part(leaves, tissue.white, WHITE_MATTER),
        Part(stem, 0.95 * tissue.white, WHITE_MATTER),
        Part(grown(callosum, 1), tissue.white, WHITE_MATTER),
    ]
    for side in (1, -1):
        parts += _deep_parts(rng, tissue, side)
    third, fourth = ball((0, 2, 6), (2.6, 14, 9)), ball((0, 38, -36), (7, 5, 10))
    return [*parts, Part(third, tissue.fluid, VENTRICLES), Part(fourth, tissue.fluid, VENTRICLES)]


def _deep_parts(rng: np.random.Generator, tissue: _Tissue, side: int) -> list[Part]:
    """Return nuclei, lateral ventricle and hippocampus of one side."""
    width = float(rng.uniform(0.75, 1.5))
    horn = curve(
        [(side * 9, -36, 18), (side * 11, -14, 27), (side * 13, 12, 29), (side * 24, 34, 16), (side * 25, 58, 10)], 13
    )
    lower = curve([(side * 24, 34, 16), (side * 33, 22, -4), (side * 35, 0, -16)], 7)
    ventricle = joined(
        tube(list(horn), list(width * np.interp(np.linspace(0, 1, 13), [0, 0.3, 0.65, 1], [5.5, 5.5, 7, 2.5]))),
        tube(list(lower), list(width * np.linspace(5.0, 2.0, 7))),
        blend_mm=3,
    )
    nuclei = [
        ball((side * 12, 8, 9), (9, 16, 9), degrees=(0, 0, side * -20)),
        ball((side * 26, -6, 8), (6, 19, 11), degrees=(0, 0, side * 12)),
        ball((side * 16, -22, 18), (6, 13, 10)),
    ]
    points = np.array([(24, -17, -21), (28, -8, -20), (29, 6, -15), (27, 20, -7), (22, 27, 2)], np.float64)
    points = points * (side, 1, 1) + rng.normal(0, 0.8, (5, 3))
    girth = float(rng.uniform(0.9, 1.1))
    hippocampus = tube(
        list(curve(points, 13)), list(girth * np.interp(np.linspace(0, 1, 13), [0, 0.2, 0.6, 1], [6, 7, 5, 3]))
    )
    label = HIPPOCAMPUS_LEFT if side > 0 else HIPPOCAMPUS_RIGHT
    return [
        *(Part(nucleus, 1.08 * tissue.grey, GREY_MATTER) for nucleus in nuclei),
        Part(ventricle, tissue.fluid, VENTRICLES),
        Part(grown(hippocampus, 1.2), 0.9 * tissue.white, WHITE_MATTER),
        Part(hippocampus, tissue.grey, label),
    ]


def _from_fissure(p: Points) -> Field:
    """Return the distance from the fissure between the hemispheres, which ends at the corpus callosum."""
    floor = 30 - np.square((p.y - 2) / 38) * 22
    below = np.maximum(floor - p.z, 0) * (np.abs(p.y) < 45)
    out: Field = np.abs(p.x) + below
    return out


def _folds(rng: np.random.Generator) -> Distance:
    """Return winding furrows: a field from -1 (crown of a gyrus) to 1 (floor of a sulcus)."""
    waves = rng.normal(size=(5, 3))
    waves *= (2 * np.pi / rng.uniform(26, 60, (5, 1))) / np.linalg.norm(waves, axis=1, keepdims=True)
    phases = rng.uniform(0, 2 * np.pi, 5)

    def fold(p: Points) -> Field:
        rows = np.column_stack([waves, phases]).astype(np.float32)
        height = np.zeros_like(p.x)
        for a, b, c, d in rows:
            height += np.sin(p.x * a + p.y * b + p.z * c + d)
        height *= np.float32(3.2)
        return np.sin(height, out=height)

    return fold

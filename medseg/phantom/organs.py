"""The organs of the torso: their places, shapes and densities, drawn anew for every patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.phantom.scene import Part
from medseg.phantom.shapes import Distance, Points, Shape, ball, common, curve, grown, joined, tube, wavy, without

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medseg.phantom.frame import Build
    from medseg.phantom.shapes import Field, Path

LIVER, SPLEEN, KIDNEY_LEFT, KIDNEY_RIGHT, LUNG_LEFT, LUNG_RIGHT, HEART, SPINE = range(1, 9)
_NATIVE, _STEATOSIS = 0.25, 0.12  # share of patients without contrast agent, and with a fatty liver


@dataclass(frozen=True, slots=True)
class Densities:
    """HU of what takes up contrast agent, for one patient and phase."""

    liver: float
    spleen: float
    kidney: float
    pancreas: float
    bowel_wall: float
    myocardium: float
    artery: float
    vein: float
    chamber: float
    lung: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Densities:
        """Return native densities in one patient of four, otherwise a portal venous phase of varied strength."""
        dose = 0.0 if rng.random() < _NATIVE else float(rng.uniform(0.7, 1.15))
        spread = rng.normal(size=10)
        steatosis = 22.0 if rng.random() < _STEATOSIS else 0.0
        return cls(
            liver=56 - steatosis + 55 * dose + 5 * spread[0],
            spleen=48 + 70 * dose + 4 * spread[1],
            kidney=33 + 145 * dose + (3 + 8 * dose) * spread[2],
            pancreas=40 + 55 * dose + 5 * spread[3],
            bowel_wall=38 + 40 * dose + 5 * spread[4],
            myocardium=46 + 55 * dose + 3 * spread[5],
            artery=43 + 105 * dose + (2 + 8 * dose) * spread[6],
            vein=42 + 95 * dose + (2 + 8 * dose) * spread[7],
            chamber=42 + 108 * dose + (2 + 8 * dose) * spread[8],
            lung=-845 + 25 * spread[9],
        )


@dataclass(frozen=True, eq=False, slots=True)
class Sketch:
    """What the organs are drawn with: the patient's build and densities, and a source of variation."""

    rng: np.random.Generator
    build: Build
    hu: Densities

    def organ(self, centre: Sequence[float], radii: Sequence[float], degrees: Sequence[float] = (0, 0, 0)) -> Shape:
        """Return an ellipsoid whose place, size and turn vary between patients."""
        at = np.asarray(centre) + self.rng.normal(0, 3.5, 3)
        size = np.asarray(radii) * np.clip(self.rng.normal(1, 0.06, 3), 0.85, 1.15)
        return ball(at, size, degrees=np.asarray(degrees) + self.rng.normal(0, 5, 3))

    def course(self, points: Path, radius: float, *, wander_mm: float = 3.0) -> Shape:
        """Return a winding tube of about `radius`, near the given points."""
        p = np.asarray(points) + self.rng.normal(0, wander_mm, (len(points), 3))
        path = curve(p, 3 * len(points))
        width = radius * (1 + 0.12 * np.sin(np.arange(len(path)) * 1.9 + self.rng.uniform(0, 6)))
        return tube(list(path), list(width))


# -- chest ----------------------------------------------------------------------------------------------------
def chest_parts(sketch: Sketch) -> list[Part]:
    """Return lungs with vessels, diaphragm, heart and the great vessels of the chest."""
    build, hu = sketch.build, sketch.hu
    heart = wavy(sketch.organ((27, -28, 116), (64, 45, 46), (8, 22, -32)), 1.5, 60, sketch.rng)
    heart = without(heart, grown(build.abdomen, 5))
    middle = joined(ball((6, 0, 140), (30, 88, 150)), ball((2, 66, 140), (29, 60, 500)), grown(heart, 4), blend_mm=8)
    parts: list[Part] = []
    air, floor = grown(build.cavity, -4), grown(build.abdomen, 7)
    for side, label in ((1, LUNG_LEFT), (-1, LUNG_RIGHT)):
        apex = ball((side * 70, 8, 70), (130, 150, 185))
        lung = without(common(grown(build.cavity, -2), apex, _half(side)), grown(build.abdomen, 5), middle)
        parts.append(Part(lung, _lung_texture(hu.lung), label))
        parts += [Part(without(common(branch, air), floor), hu.vein) for branch in _lung_vessels(sketch, side)]
    sheet = common(grown(build.cavity, 1), without(grown(build.abdomen, 4.5), grown(build.abdomen, 1.5)))
    parts.append(Part(sheet, build.muscle_hu))
    return parts + _great_vessels(sketch) + _heart_parts(sketch, heart)


def _half(side: int) -> Shape:
    """Return the patient's left (1) or right (-1) half, less the middle."""
    low, high = (3.0, 1e4) if side > 0 else (-1e4, -3.0)
    return Shape(lambda p: 4 - side * p.x, (low, -1e4, -1e4), (high, 1e4, 1e4))


def _lung_texture(hu: float) -> Distance:
    def texture(p: Points) -> Field:
        """Denser towards the back, where the blood lies, and mottled."""
        mottle = np.sin(p.x / 5 + p.y / 9) * np.sin(p.y / 6 - p.z / 7) * np.sin(p.z / 5 + p.x / 11)
        out: Field = np.float32(hu) + np.float32(0.45) * p.y + 22 * mottle
        return out

    return texture


def _lung_vessels(sketch: Sketch, side: int) -> list[Shape]:
    """Return vessels from the hilum outwards, forking once."""
    rng, vessels = sketch.rng, []
    for turn in np.linspace(-2.8, 2.8, 13):
        root = np.array([side * 32, 18, 128]) + rng.normal(0, 4, 3)
        aim = np.array([side * (0.55 + 0.35 * np.cos(turn)), 0.7 * np.sin(turn * 1.7), -np.cos(turn) * 0.9])
        aim = aim / np.linalg.norm(aim) + rng.normal(0, 0.12, 3)
        fork = root + aim * rng.uniform(28, 45)
        vessels.append(tube([root, fork], (5.0, 3.6)))
        for _ in range(4):
            way = aim + rng.normal(0, 0.42, 3)
            mid = fork + way * rng.uniform(22, 34)
            tip = mid + (way + rng.normal(0, 0.35, 3)) * rng.uniform(22, 40)
            vessels.append(tube([fork, mid, tip], (3.2, 2.2, 1.0)))
    return vessels


def _great_vessels(sketch: Sketch) -> list[Part]:
    hu, wall = sketch.hu, sketch.build.muscle_hu
    windpipe = joined(
        tube([(2, 20, 300), (2, 25, 192)], (9, 9)),
        tube([(2, 25, 192), (34, 24, 165)], (7, 6)),
        tube([(2, 25, 192), (-30, 24, 168)], (7.5, 6.5)),
    )
    gullet = sketch.course([(4, 36, 250), (6, 34, 180), (10, 26, 120), (20, 8, 78)], 8, wander_mm=1.5)
    arch = [(20, 34, 90), (24, 38, 150), (22, 32, 196), (10, 6, 214), (-6, -22, 196), (-6, -30, 165), (6, -25, 135)]
    return [
        Part(gullet, wall - 10),
        Part(grown(windpipe, 2.0), 30.0),
        Part(windpipe, -1000.0),
        Part(sketch.course(arch, 13, wander_mm=1.5), hu.artery),
        Part(sketch.course([(-26, -10, 260), (-27, -10, 200), (-26, -14, 150)], 10, wander_mm=2), hu.vein),
        Part(sketch.course([(14, -38, 150), (16, -18, 172), (-18, 4, 172)], 12, wander_mm=2), hu.vein),
    ]


def _heart_parts(sketch: Sketch, heart: Shape) -> list[Part]:
    hu = sketch.hu
    cavity = grown(heart, -5)
    chambers = [
        common(sketch.organ((50, -30, 106), (38, 20, 22), (8, 22, -32)), grown(heart, -9)),
        common(sketch.organ((14, -56, 106), (38, 17, 28), (8, 22, -32)), cavity),
        common(sketch.organ((-16, -22, 122), (20, 26, 30)), cavity),
        common(sketch.organ((18, 4, 130), (30, 16, 22)), cavity),
    ]
    return [
        Part(without(grown(heart, 3), grown(sketch.build.abdomen, 5)), -95.0, 0),
        Part(heart, hu.myocardium, HEART),
        *(Part(chamber, hu.chamber) for chamber in chambers),
    ]


# -- abdomen --------------------------------------------------------------------------------------------------
def abdomen_parts(sketch: Sketch) -> list[Part]:
    """Return the organs below the diaphragm, from the back of the paint to the front."""
    rng, build, hu = sketch.rng, sketch.build, sketch.hu
    room = common(grown(build.cavity, -1.5), grown(build.abdomen, 0.5))
    kidneys = {side: _kidney(sketch, side) for side in (1, -1)}
    liver = _liver(sketch, room, kidneys[-1])
    spleen = common(sketch.organ((106, 42, 42), (36, 50, 60), (-25, 12, -28)), room)
    spleen = wavy(without(spleen, sketch.organ((62, 16, 38), (33, 40, 60)), grown(kidneys[1], 4)), 1.2, 45, rng)
    parts = _bowel_parts(sketch, grown(liver, 2), common(room, grown(build.cavity, -3)))
    parts += _stomach_parts(sketch, without(room, grown(liver, 1.5), grown(spleen, 1.5)))
    pancreas = sketch.course([(-34, -14, -12), (-22, -22, -2), (4, -24, 8), (30, -8, 14), (62, 16, 22)], 10)
    parts += [
        Part(without(pancreas, grown(liver, 2)), hu.pancreas),
        Part(grown(spleen, 1.5), -100.0),
        Part(spleen, _parenchyma(hu.spleen, 2.0), SPLEEN),
        Part(liver, _parenchyma(hu.liver, 3.0), LIVER),
        Part(tube([(6, -80, 30), (8, -40, 18)], (3.5, 2.5)), -90.0, 0),
        *(Part(common(vessel, grown(liver, -2)), hu.vein + 8) for vessel in _liver_vessels(sketch)),
        Part(sketch.organ((-46, -62, -16), (14, 17, 27), (15, 0, 0)), 8.0, 0),
    ]
    parts += _midline_vessels(sketch)
    for side, label in ((1, KIDNEY_LEFT), (-1, KIDNEY_RIGHT)):
        parts += _kidney_parts(sketch, kidneys[side], side, label)
    return parts


def _parenchyma(hu: float, depth: float) -> Distance:
    def texture(p: Points) -> Field:
        """Even tissue with a slow, faint unevenness."""
        out: Field = np.float32(hu) + depth * np.sin(p.x / 17 + p.z / 29) * np.sin(p.y / 15 - p.z / 23)
        return out

    return texture


def _liver(sketch: Sketch, room: Shape, kidney: Shape) -> Shape:
    lobes = joined(
        sketch.organ((-84, 0, 18), (82, 106, 95)),
        sketch.organ((0, -44, 46), (74, 46, 42), (0, 14, 0)),
        blend_mm=24,
    )
    spine_side = tube([(6, 52, -200), (6, 52, 200)], (37, 37))
    hollow = sketch.organ((0, 6, -70), (94, 96, 92), (0, -24, 0))
    return wavy(without(common(lobes, room), hollow, spine_side, grown(kidney, 4)), 1.5, 55, sketch.rng)


def _liver_vessels(sketch: Sketch) -> list[Shape]:
    portal = [(-22, -14, 8), (-34, -12, 22), (-58, -8, 30), (-92, 4, 34)]
    vessels = [
        sketch.course(portal, 6.0, wander_mm=2),
        sketch.course([(-40, -10, 26), (-20, -34, 38), (14, -48, 46)], 4.5, wander_mm=2),
        sketch.course([(-60, -6, 30), (-76, -34, 14), (-90, -50, -4)], 3.6, wander_mm=3),
        sketch.course([(-60, -6, 30), (-84, 34, 10), (-104, 46, -18)], 3.6, wander_mm=3),
    ]
    for tip in ((-104, 22, 52), (-82, -40, 58), (10, -52, 62), (-70, 44, 30)):
        middle = 0.5 * np.array(tip) + 0.5 * np.array((-24, 2, 84)) + (0, 0, 8)
        vessels.append(sketch.course([(-24, 4, 84), middle, tip], 4.0, wander_mm=3))
    return vessels


def _kidney(sketch: Sketch, side: int) -> Shape:
    centre = (64, 36, -16) if side > 0 else (-63, 36, -30)
    kidney = sketch.organ(centre, (29, 27, 57), (-10, side * 12, side * -28))
    return common(wavy(kidney, 1.2, 40, sketch.rng), grown(sketch.build.cavity, -2))


def _kidney_parts(sketch: Sketch, kidney: Shape, side: int, label: int) -> list[Part]:
    """Return fat around the kidney, the kidney, and its sinus: fat and pelvis, which are not kidney."""
    x, y, z = (0.5 * (np.array(kidney.low) + np.array(kidney.high))).tolist()
    hu = sketch.hu.kidney
    sinus = sketch.organ((x - side * 15, y - 7, z), (14, 8, 19), (0, side * 12, side * -28))
    medulla = grown(kidney, -7)
    return [
        Part(common(grown(kidney, 5), grown(sketch.build.cavity, -1)), -104.0, 0),
        Part(kidney, hu, label),
        Part(medulla, hu - 0.10 * max(hu - 33, 0)),
        Part(sinus, -62.0, 0),
        Part(tube([(x - side * 6, y - 4, z), (x - side * 34, y - 8, z + 6)], (4.5, 3.5)), sketch.hu.vein),
    ]


def _midline_vessels(sketch: Sketch) -> list[Part]:
    hu = sketch.hu
    aorta = sketch.course([(21, 34, 110), (16, 24, 60), (10, 12, 10), (7, 8, -50), (4, 6, -112)], 10.5, wander_mm=1)
    cava = sketch.course(
        [(-22, -4, 118), (-24, 6, 84), (-26, 16, 40), (-22, 10, -20), (-17, 10, -112)], 11, wander_mm=1
    )
    renal = tube([(48, 24, -14), (0, 2, -8), (-22, 10, -8)], (4, 4, 4))
    parts = [Part(renal, hu.vein), Part(cava, hu.vein, 0), Part(aorta, hu.artery, 0)]
    for side in (1, -1):
        legs = [(4 * side, 7, -110), (24 * side, 12, -150), (46 * side, 0, -200)]
        parts += [Part(tube(legs, (7, 6, 5)), hu.artery)]
    mesenteric = sketch.course([(6, 0, 8), (4, -16, -6), (0, -22, -60)], 4, wander_mm=2)
    portal = sketch.course([(-4, -18, -60), (-8, -16, -10), (-22, -14, 8)], 5.5, wander_mm=1)
    splenic = sketch.course([(-10, -15, 2), (24, 4, 16), (70, 26, 30)], 3.8, wander_mm=2)
    return [*parts, Part(mesenteric, hu.artery), Part(portal, hu.vein + 8), Part(splenic, hu.vein + 8)]


# -- stomach and bowel ----------------------------------------------------------------------------------------
def _stomach_parts(sketch: Sketch, room: Shape) -> list[Part]:
    fundus = sketch.organ((62, 0, 56), (50, 54, 42))
    body = sketch.course(
        [(60, -14, 50), (54, -42, 14), (34, -60, -14), (2, -56, -18), (-24, -44, -10)], 24, wander_mm=5
    )
    stomach = common(joined(fundus, body, blend_mm=16), room)
    level = float(sketch.rng.uniform(-58, -20))
    gas = Shape(lambda p: p.y - np.float32(level))
    inside = grown(stomach, -4.5)
    return [
        Part(grown(stomach, 1.5), -98.0),
        Part(stomach, sketch.hu.bowel_wall),
        Part(inside, _stomach_content(float(sketch.rng.uniform(8, 35)))),
        Part(common(inside, gas), -950.0),
    ]


def _stomach_content(hu: float) -> Distance:
    def texture(p: Points) -> Field:
        """Fluid with lumps of food."""
        out: Field = np.float32(hu) + 10 * np.sin(p.x / 4.1 + p.z / 6.3) * np.sin(p.y / 3.7 - p.x / 8.3)
        return out

    return texture


def _bowel_parts(sketch: Sketch, liver: Shape, room: Shape) -> list[Part]:
    rng, hu = sketch.rng, sketch.hu
    parts: list[Part] = []
    for _ in range(17):
        loop = common(_loop(sketch), room)
        parts += [Part(grown(loop, 1.5), -100.0), Part(loop, hu.bowel_wall)]
        parts.append(Part(grown(loop, -3), float(rng.choice([10, 22, 28, 34, -750], p=[0.2, 0.25, 0.25, 0.2, 0.1]))))
    for _ in range(24):
        root = np.array((0, -4, -70)) + rng.normal(0, (14, 6, 22))
        tip = np.array((rng.uniform(-70, 70), rng.uniform(-66, -20), rng.uniform(-150, -30)))
        parts.append(Part(common(tube([root, tip], (2.6, 1.4)), room), hu.vein))
    right = [(-100, 22, -160), (-104, 26, -110), (-100, 24, -66), (-84, -20, -52)]
    across = [(-84, -30, -52), (-56, -70, -60), (-10, -84, -74), (40, -80, -58), (78, -52, -20), (102, 6, 6)]
    left = [(102, 6, 6), (114, 34, -30), (112, 34, -80), (102, 26, -130), (88, 10, -170)]
    for points, radius in ((right, 23), (across, 18), (left, 15)):
        gut = common(without(sketch.course(points, radius, wander_mm=5), liver), room)
        parts += [
            Part(grown(gut, 1.5), -100.0),
            Part(gut, hu.bowel_wall),
            Part(grown(gut, -2.5), _stool(rng.uniform(0, 6, 3), float(rng.uniform(-0.25, 0.6)))),
        ]
    return parts


def _loop(sketch: Sketch) -> Shape:
    """Return one winding loop of small bowel."""
    rng = sketch.rng
    at = np.array([rng.uniform(-66, 70), rng.uniform(-74, -14), rng.uniform(-160, -34)])
    way, path = rng.normal(size=3), [at]
    for _ in range(4):
        way = way / np.linalg.norm(way) + rng.normal(0, 0.55, 3)
        path.append(path[-1] + way * 17)
    return sketch.course(path, rng.uniform(9, 12.5), wander_mm=0)


def _stool(phase: NDArray[np.float64], gas_share: float) -> Distance:
    a, b, c = (np.float32(p) for p in phase)

    def texture(p: Points) -> Field:
        """Stool and gas: pockets between lumps, more gas towards the front."""
        lumps = (
            np.sin(p.x / 5.3 + a + np.sin(p.z / 7)) * np.sin(p.y / 4.7 + b) * np.sin(p.z / 5.9 + c + np.sin(p.x / 9))
        )
        slow = np.sin(p.z / 31 + a) + np.sin(p.x / 37 + b)
        gas = np.clip(4 * (lumps + 0.35 * slow + gas_share - 0.55), 0, 1)
        out: Field = 45 - 30 * np.abs(lumps) - 850 * gas
        return out

    return texture

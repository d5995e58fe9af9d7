"""The frame of the torso: skin, fat, muscle, cavities, diaphragm and ribs.

Anatomical millimetres: x to the patient's left, y to the back, z up; the origin lies in the middle of the body at about
the twelfth thoracic vertebra.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.phantom.scene import Part
from medseg.phantom.shapes import Points, Shape, ball, common, curve, grown, joined, soft_minimum, tube

if TYPE_CHECKING:
    from medseg.phantom.shapes import Field

SKIN_MM = 2.2
_WIDEST_Y_MM = 10.0
_RIB_GAP_MM = 27.0
_RIB_FALL_MM = 96.0
_RIBS_FROM, _CARTILAGE_FROM = 0.24, 2.2  # angle around the body from the back, in radians
_AWAY = np.float32(50.0)


@dataclass(frozen=True, slots=True)
class Build:
    """How this patient is built."""

    half_width_mm: float
    half_depth_mm: float
    fat_mm: float
    wall_mm: float
    domes_mm: tuple[float, float]  # height of the diaphragm on the right and left, against the average
    vertebra_phase: float
    rib_phase_mm: float
    marrow_hu: float
    muscle_hu: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Build:
        """Return a random adult."""
        breath = rng.normal(0, 6)
        return cls(
            half_width_mm=float(rng.normal(148, 5)),
            half_depth_mm=float(rng.normal(98, 4)),
            fat_mm=float(np.clip(rng.gamma(5.0, 3.4), 6, 34)),
            wall_mm=float(rng.uniform(10, 14)),
            domes_mm=(float(breath + rng.normal(0, 3)), float(breath + rng.normal(0, 3))),
            vertebra_phase=float(rng.uniform(0, 1)),
            rib_phase_mm=float(rng.uniform(-6, 6)),
            marrow_hu=float(rng.uniform(130, 230)),
            muscle_hu=float(rng.normal(55, 4)),
        )

    # -- surfaces -------------------------------------------------------------------------------------------
    @property
    def muscle(self) -> Shape:
        """The body less skin and subcutaneous fat."""
        return Shape(lambda p: p.kept(self._muscle_mm))

    @property
    def body(self) -> Shape:
        """The whole body."""
        return Shape(lambda p: p.kept(self._body_mm))

    @property
    def cavity(self) -> Shape:
        """What the muscles and ribs enclose."""
        return Shape(lambda p: p.kept(self._cavity_mm))

    @property
    def abdomen(self) -> Shape:
        """Everything below the diaphragm, inside and outside the cavity."""
        return Shape(lambda p: p.kept(self._abdomen_mm))

    def spine_y(self, p: Points) -> Field:
        """Return where the middle of the vertebral bodies lies: hollow at the loins, bowed at the chest."""
        bow: Field = 38 + 11 * np.tanh((p.z - 40) / 70) + 6 * np.exp(-(((p.z + 150) / 60) ** 2))
        return bow

    def _muscle_mm(self, p: Points) -> Field:
        chest = np.tanh((p.z - 20) / 60)
        y = p.y - np.float32(_WIDEST_Y_MM)
        u = np.abs(p.x) / (self.half_width_mm * (1 + 0.03 * chest))
        depth = self.half_depth_mm * (1 + 0.05 * chest)
        back = y > 0
        v = np.abs(y) / np.where(back, depth - 8, depth + 14)
        power = np.where(back, np.float32(2.9), np.float32(2.35))
        rho = (u**power + v**power + np.float32(1e-6)) ** (1 / power)
        radial: Field = np.hypot(p.x, y) * (1 - 1 / rho)
        return radial

    def _body_mm(self, p: Points) -> Field:
        back = p.y / (np.hypot(p.x, p.y) + 1)
        thickness = self.fat_mm * (0.85 - 0.15 * back - 0.2 * np.tanh((p.z - 20) / 60)) + SKIN_MM
        furrow = np.exp(-((p.x / 17) ** 2))
        groove = np.where(p.y > 0, 8 * furrow, -0.1 * self.fat_mm * furrow)
        distance: Field = p.kept(self._muscle_mm) - thickness + groove
        return distance

    def _cavity_mm(self, p: Points) -> Field:
        """Return the cavity: its wall thins between straight and oblique muscles, erector muscles fill the back."""
        chest = 0.5 + 0.5 * np.tanh((p.z - 30) / 40)
        angle = np.arctan2(np.abs(p.x), -p.y)  # 0 in front
        thin = 4.5 * (1 - chest) * np.exp(-(((angle - 0.75) / 0.22) ** 2))
        inner = p.kept(self._muscle_mm) + (self.wall_mm + chest - thin)
        u = np.square(p.x / (66 - 16 * chest))
        v = np.square((p.y - p.kept(self.spine_y) - 48) / (30 - 5 * chest))
        block = (np.sqrt(np.sqrt(u * u + v * v)) - 1) * 28
        distance: Field = np.maximum(inner, -block)
        return distance

    def _abdomen_mm(self, p: Points) -> Field:
        right, left = self.domes_mm
        domes = joined(
            ball((-74, 0, 6), (88, 104, 94 + right)),
            ball((76, 5, 6), (84, 98, 80 + left)),
            ball((0, -10, 8), (90, 84, 66 + 0.5 * (left + right))),
            blend_mm=14,
        )
        attached = (p.z - 24 + np.float32(0.35) * p.y) * np.float32(0.94)
        return soft_minimum(domes.distance_mm(p), attached, 10)


def wall_parts(build: Build) -> list[Part]:
    """Return skin, subcutaneous fat, muscle and the fat that fills the cavities."""
    hu = np.float32(build.muscle_hu)

    def muscle(p: Points) -> Field:
        """Muscle with streaks of fat between its bundles and layers."""
        bundles = np.sin(p.x / 9 + 2 * np.sin(p.z / 23)) * np.sin(p.y / 7 + 1.5 * np.sin(p.x / 19))
        deep = p.kept(build.muscle.distance_mm) / np.float32(build.wall_mm)
        flank = np.exp(-(((np.abs(p.x) - 130) / 28) ** 2)) * (p.z < 25)
        layers = flank * (np.exp(-(((deep + 0.36) / 0.07) ** 2)) + np.exp(-(((deep + 0.68) / 0.07) ** 2)))
        back = np.clip((p.y - 55) / 20, 0, 1)
        out: Field = hu - 90 * back * np.clip(bundles * np.sin(p.z / 31 + p.y / 13) - 0.4, 0, 1) - 100 * layers
        white_line = np.exp(-((p.x / 5) ** 2)) * (p.y < -40) * (p.z < 60)
        out -= 70 * white_line
        return out

    parts = [
        Part(build.body, 12.0, 0),
        Part(grown(build.body, -SKIN_MM), -106.0),
        Part(build.muscle, muscle),
        Part(build.cavity, _strands),
    ]
    for side in (1, -1):
        course = curve([(side * 25, 36, 5), (side * 34, 36, -45), (side * 44, 32, -110), (side * 56, 22, -200)], 9)
        parts += [
            Part(common(ball((side * 76, 66, -70), (22, 12, 64)), grown(build.cavity, 5)), build.muscle_hu),
            Part(tube(course, np.linspace(7, 26, 9)), build.muscle_hu),
        ]
    return parts


def _strands(p: Points) -> Field:
    """Fat of the cavities with faint strands."""
    weave = np.sin(p.x / 7 + 2 * np.sin(p.y / 17)) * np.sin(p.y / 6 + p.z / 21) * np.sin(p.z / 8 + p.x / 15)
    out: Field = -104 + 40 * np.clip(weave - 0.3, 0, 1)
    return out


def rib_parts(build: Build) -> list[Part]:
    """Return ribs, their cartilages and the sternum, all inside the wall."""

    def ribs(p: Points) -> Field:
        return np.where(p.kept(_angle) < _CARTILAGE_FROM, p.kept(nearest), _AWAY)

    def cartilages(p: Points) -> Field:
        return np.where(p.kept(_angle) >= _CARTILAGE_FROM, p.kept(nearest), _AWAY)

    def nearest(p: Points) -> Field:
        """Return the distance to the nearest rib; lower ribs end sooner."""
        angle = p.kept(_angle)
        along = p.z + _RIB_FALL_MM * np.sin(0.62 * angle) + build.rib_phase_mm
        number = np.floor(along / _RIB_GAP_MM)
        low = along - (number + 0.5) * _RIB_GAP_MM
        steep = 1 + 0.35 * np.cos(0.62 * angle)
        from_middle = p.kept(build.muscle.distance_mm) + (0.58 * build.wall_mm + 2.0)
        rib = (np.hypot(from_middle / 4.2, low / (6.2 * steep)) - 1) * 4.4
        first = np.clip(np.floor((angle - 0.75) / 0.34), 0, 6)
        return np.where((number >= first) & (angle > _RIBS_FROM), rib, _AWAY)

    front = _WIDEST_Y_MM - 1.05 * build.half_depth_mm - 14 + 0.5 * build.wall_mm + 2
    sternum = ball((0, front, 165), (19, 5.5, 78))
    cage = ((-1e3, -1e3, -40.0), (1e3, 1e3, 1e3))
    bone = Shape(ribs, *cage)
    return [
        Part(bone, 520.0),
        Part(grown(bone, -1.6), build.marrow_hu + 30),
        Part(Shape(cartilages, *cage), 105.0),
        Part(sternum, 330.0),
        Part(grown(sternum, -1.6), build.marrow_hu - 20),
    ]


def _angle(p: Points) -> Field:
    """Return the angle around the body: 0 at the back, pi in front, the same on both sides."""
    angle: Field = np.arctan2(np.abs(p.x), p.y)
    return angle

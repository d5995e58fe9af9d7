"""Sets of structures per voxel: against a plain loop over voxels, for any number of overlapping boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import InputError
from medseg.geometry import Geometry
from medseg.io.dicom.cover import Cover
from medseg.labels import LabelSet
from medseg.rois import RoiRules

GRID = Geometry((2, 3, 4), np.eye(4))
RULES = RoiRules(LabelSet.from_names({1: "a", 300: "b"}), (("a*", 1), ("b*", 300)), overlap="later wins")


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2**24 - 1)), max_size=12))
def test_every_voxel_knows_its_structures(parts: list[tuple[int, int]]) -> None:
    cover = Cover(GRID)
    members = [set() for _ in range(24)]
    for structure, bits in parts:
        inside = np.array([bool(bits >> n & 1) for n in range(24)])
        cover.add(structure, inside.reshape(GRID.shape))
        for n in np.flatnonzero(inside):
            members[n].add(structure)
    found = [set(cover.sets[number]) for number in cover.numbers_zyx.ravel()]
    assert found == members


def test_labels_follow_from_the_rules() -> None:
    cover = Cover(GRID)
    a, b = np.zeros(GRID.shape, bool), np.zeros(GRID.shape, bool)
    a[0], b[:, 1] = True, True
    cover.add(0, b)
    cover.add(1, a)
    names = ("b1", "a1")
    mask = cover.labelled(RULES, names, RULES.take(names))
    assert mask.array.dtype == np.uint16
    np.testing.assert_array_equal(mask.array, np.where(b, 300, np.where(a, 1, 0)))
    strict = RoiRules(RULES.labels, RULES.patterns)
    with pytest.raises(InputError, match=r"'a1' and 'b1' overlap \(4 voxels\)"):
        cover.labelled(strict, names, strict.take(names))


def test_a_window_is_part_of_the_grid() -> None:
    cover = Cover(GRID)
    cover.add(3, np.ones((3, 2), bool), window=cover.numbers_zyx[1, :, ::-2])
    assert cover.numbers_zyx.tolist() == [[[0, 0, 0, 0]] * 3, [[0, 1, 0, 1]] * 3]

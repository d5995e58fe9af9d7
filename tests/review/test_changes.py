"""Edits go forth and back exactly, and what can be undone is bounded in bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.geometry import Box
from medseg.review.changes import Edit, History

SHAPE = (3, 5, 7)


@given(st.integers(0, 2**32 - 1))
def test_an_edit_and_its_inverse_are_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 3, SHAPE).astype(np.uint8)
    block = rng.integers(0, 3, (2, 4, 5)).astype(np.uint8)
    box = Box((1, 0, 2), (3, 4, 7))
    wanted = mask.copy()
    wanted[box.slices] = block
    edit = Edit.of_block(mask, box, block)
    assert edit.n_voxels == np.count_nonzero(wanted != mask)
    edited = mask.copy()
    edit.apply(edited)
    assert np.array_equal(edited, wanted)
    edit.inverse().apply(edited)
    assert np.array_equal(edited, mask)


def test_an_edit_knows_where_it_was() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    edit = Edit.of_block(mask, Box((1, 2, 3), (2, 4, 5)), np.ones((1, 2, 2), np.uint8))
    assert edit.slices == (slice(1, 2), slice(2, 4))


def test_an_edit_of_another_mask_is_refused() -> None:
    edit = Edit.of_block(np.zeros(SHAPE, np.uint8), Box((0, 0, 0), (1, 1, 1)), np.ones((1, 1, 1), np.uint8))
    with pytest.raises(ValueError, match="another shape"):
        edit.apply(np.zeros((3, 5, 8), np.uint8))
    with pytest.raises(ValueError, match="layout"):
        edit.apply(np.zeros(SHAPE[::-1], np.uint8).T)


@given(st.lists(st.sampled_from("eur"), max_size=40), st.integers(0, 2**32 - 1))
def test_undo_and_redo_walk_the_states_there_were(steps: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask, history = np.zeros(SHAPE, np.uint8), History()
    states, here = [mask.copy()], 0
    for step in steps:
        if step == "e":
            block = rng.integers(1, 200, (1, 2, 3)).astype(np.uint8)
            edit = Edit.of_block(mask, Box((0, 0, 0), (1, 2, 3)), block)
            edit.apply(mask)
            history.push(edit)
            states, here = [*states[: here + 1], mask.copy()], here + 1
        elif step == "u":
            assert (history.undo(mask) is not None) == (here > 0)
            here = max(0, here - 1)
        else:
            assert (history.redo(mask) is not None) == (here < len(states) - 1)
            here = min(len(states) - 1, here + 1)
        assert np.array_equal(mask, states[here])


def test_the_oldest_edits_are_forgotten() -> None:
    mask, history = np.zeros(SHAPE, np.uint8), History(limit_bytes=200)
    for n in range(1, 60):
        edit = Edit.of_block(mask, Box((0, 0, 0), (1, 1, 7)), np.full((1, 1, 7), n, np.uint8))
        edit.apply(mask)
        history.push(edit)
        assert history.nbytes <= 200
    depth, _ = history.depth
    assert depth == 200 // edit.nbytes
    while history.undo(mask) is not None:
        assert history.nbytes <= 200
    assert mask[0, 0, 0] == 59 - depth
    history.clear()
    assert (history.nbytes, history.depth) == (0, (0, 0))

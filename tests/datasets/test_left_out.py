"""What references hold beside the labels is said before training, and counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.case import Case, Dataset
from medseg.datasets import left_out
from medseg.geometry import Geometry
from medseg.labels import LabelSet
from medseg.rois import RoiRules

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BOX = np.s_[0:1, 0:2, 0:2]
LABELS = LabelSet.from_names({1: "GTV", 2: "node"})
RULES = RoiRules(LABELS, (("GTV*", 1), ("node", 2), ("BODY", 0)))


@pytest.fixture
def dataset(tmp_path: Path, draw_boxes: Callable[..., Path]) -> Callable[..., Dataset]:
    """Return a function that makes a data set of contours by the names of their structures; `None` for a NIfTI mask."""

    def make(*drawn: tuple[str, ...] | None, rules: RoiRules | None = RULES) -> Dataset:
        cases = []
        for n, names in enumerate(drawn):
            path = tmp_path / f"{n}.nii.gz"
            if names is not None:
                boxes = [(name, BOX) for name in names]
                path = draw_boxes(tmp_path / f"{n}.dcm", Geometry((2, 3, 4), np.eye(4)), boxes)
            path.touch()
            cases.append(Case(str(n), (path,), path, rules=rules))
        return Dataset("x", tuple(cases), LABELS)

    return make


def test_structures_and_labels_are_counted_by_case(dataset: Callable[..., Dataset]) -> None:
    sentences = left_out(dataset(("GTV 1", "Couch", "Couch", "BODY"), ("GTV", "Couch", "Isocentre"), None))
    assert sentences == (
        "Structures for no label, learned as background: 'Couch' (2 cases), 'Isocentre' (1 case).",
        "Labels without a structure: 'node' (2 cases).",
    )


def test_nothing_is_said_where_nothing_is_left_out(dataset: Callable[..., Dataset]) -> None:
    assert left_out(dataset(("GTV", "node"), None)) == ()
    assert left_out(dataset(("gtv", "Node"), rules=None)) == ()


def test_a_long_list_is_cut(dataset: Callable[..., Dataset]) -> None:
    (sentence,) = left_out(dataset(("GTV", "node", *(f"s{n}" for n in range(11)))))
    assert sentence.endswith("and 3 more.")

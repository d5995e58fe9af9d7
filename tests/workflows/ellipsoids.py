"""A data set of bright ellipsoids in noise, and settings that train on it in seconds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from medseg.geometry import Geometry
from medseg.io import write_segmentation, write_volume
from medseg.phantom import ellipsoid

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = (
    "train.folds=2",
    "train.epochs=2",
    "train.steps_per_epoch=3",
    "train.patch_size=[16,16,16]",
    "network.width=8",
    "network.depth=2",
)


def ellipsoids(root: Path, cases: int) -> Path:
    """Write the cases as two folders paired by name, with a table of channels and labels."""
    for name in ("imagesTr", "labelsTr"):
        (root / name).mkdir()
    rng = np.random.default_rng(0)
    for number in range(cases):
        affine = np.array([[0, 0, 1.0, -9 + number], [0, 1.0, 0, 4], [1.5, 0, 0, 2], [0, 0, 0, 1]])
        grid = Geometry((18, 20, 22), affine)
        centre = grid.to_lps(rng.uniform(7, 11, 3))
        phantom = ellipsoid(grid, centre_lps=centre, radii_mm=(6, 5, 7))
        write_volume(phantom.volume, root / "imagesTr" / f"case_{number}_0000.nii.gz")
        write_segmentation(phantom.segmentation, root / "labelsTr" / f"case_{number}.nii.gz")
    document = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "blob": 1},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(document))
    return root

"""A tilted series from scan to SEG: seen on a right-angled grid, answered on the tilted slices."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from medseg.geometry import Geometry
from medseg.io.dicom import find_series, read_seg, read_series, write_seg, write_series
from medseg.io.dicom.seg.frames import frames_of
from medseg.labels import LabelSet
from medseg.plan import Plan
from medseg.preprocess import prepare, restore
from medseg.volume import Volume

LABELS = LabelSet.from_names({1: "ball", 4: "box"})
CENTRE_LPS = np.array([8.0, -12.0, 40.0])
PLAN = Plan.from_document(
    {
        "channels": ["CT"],
        "labels": LABELS.to_json(),
        "preprocess": {"orientation": "SPL", "spacing_mm": [1.5, 1.0, 1.0], "normalisation": [{"kind": "zscore"}]},
        "network": {
            "dimensions": 3,
            "features": [4, 8],
            "strides": [[1, 1, 1], [2, 2, 2]],
            "kernels": [[3, 3, 3], [3, 3, 3]],
        },
        "train": {"patch_size": [8, 8, 8], "batch_size": 2},
    }
)


def scores_at(points_lps):
    """Return a score for background, ball and box at points of the patient: continuous, the truth where largest."""
    off = points_lps - CENTRE_LPS
    ball = 11.0 - np.linalg.norm(off - [6, 0, 3], axis=-1)
    box = 8.0 - np.abs(off - [-14.3, 4.1, -4.2]).max(axis=-1)
    return np.stack([np.zeros_like(ball), ball, box])


def truth_on(geometry):
    index = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1)
    scores = scores_at(geometry.to_lps(index))
    return scores, np.array([0, *LABELS.ids], np.uint8)[scores.argmax(axis=0)]


@pytest.fixture(params=[14.0, -20.0, 30.0])
def tilted(request, tmp_path):
    """Return a tilted series on disk, about the centre of the phantom."""
    shape, spacing = (16, 60, 64), np.array([3.0, 0.9, 0.8])
    steps = np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]]) * spacing
    steps[1, 0] = np.tan(np.deg2rad(request.param)) * spacing[0]
    affine = np.eye(4)
    affine[:3, :3] = steps
    affine[:3, 3] = CENTRE_LPS - steps @ ((np.array(shape) - 1) / 2)
    geometry = Geometry(shape, affine)
    _, truth = truth_on(geometry)
    image = (truth.astype(np.int16) * 100)[None]
    write_series(Volume(image, geometry, ("CT",)), tmp_path / "series", modality="CT")
    return find_series(tmp_path / "series")


def test_a_mask_made_on_the_working_grid_lies_on_the_tilted_slices(tilted, tmp_path):
    assert "gantry-tilt" in {f.code for f in tilted.findings}
    assert tilted.geometry.is_sheared
    scan = read_series(tilted)
    seen = prepare(scan, PLAN)
    assert not seen.geometry.is_sheared
    answer, _ = truth_on(seen.geometry)
    logits = Volume(answer.astype(np.float32), seen.geometry, tuple("abc"))
    mask = restore(logits, scan.geometry, LABELS)
    _, truth = truth_on(scan.geometry)
    for label in LABELS.ids:
        found, wanted = mask.array == label, truth == label
        assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.97
        off_voxels = np.abs(np.argwhere(found).mean(axis=0) - np.argwhere(wanted).mean(axis=0)).max()
        assert off_voxels < 0.1
    write_seg(mask, tmp_path / "seg.dcm", source=tilted, all_frames=True)
    where = {str(d.SOPInstanceUID): d.ImagePositionPatient for d in map(pydicom.dcmread, tilted.paths)}
    frames = list(frames_of(pydicom.dcmread(tmp_path / "seg.dcm")))
    assert len(frames) == 2 * len(where)
    for frame in frames:
        np.testing.assert_array_equal(frame.position_lps, [float(v) for v in where[frame.source_uids[0]]])
    back = read_seg(tmp_path / "seg.dcm", onto=scan.geometry)
    np.testing.assert_array_equal(np.array([0, *LABELS.ids])[back.array], mask.array)

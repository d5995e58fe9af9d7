"""What a batch leaves is what a review opens: cases, scans, masks, hashes and order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.batch import BatchOptions, run_batch
from medseg.io.dicom import write_series
from medseg.review import Desk, find_cases

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_review_opens_what_a_batch_left(
    tmp_path: Path,
    three_scans: Path,
    scan: Callable[..., object],
    make_model: Callable[..., Path],
    loading: Callable[..., object],
) -> None:
    for n, name in enumerate(("one", "two")):
        (three_scans / name).mkdir()
        write_series(scan(n), three_scans / name, modality="MR", name=name)
    (three_scans / "broken.nii.gz").write_bytes(b"no scan")
    model = make_model()
    manifest = run_batch(loading(model), [three_scans], out=tmp_path / "out", options=BatchOptions())
    cases = find_cases(tmp_path / "out", [three_scans])
    done = {case.id for case in manifest.cases if case.status == "done"}
    assert {case.id for case in cases} == done
    assert len(done) == 5
    desk = Desk(tmp_path / "out", who="ada")
    for case in cases:
        opened = desk.open(case.id)
        assert opened.labels.names == ("lesion",)
        assert np.array_equal(opened.mask > 0, opened.scan.array[0] > 500)
        assert case.mask_sha256
        assert case.model_sha256 == manifest.model["sha256"]
        desk.accept()
    assert desk.queue.counts["accepted"] == 5
    desk.close()
    manifest = run_batch(loading(model), [three_scans], out=tmp_path / "out", options=BatchOptions(overwrite=True))
    desk = Desk(tmp_path / "out", who="ada")  # predicted anew, to the same masks: what was decided holds
    assert desk.queue.counts["accepted"] == 5
    assert desk.verify() == ""
    desk.close()

"""What a person asks of a batch: refused where it makes no sense, and kept to by those who go on with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from medseg.batch import BatchOptions, run_batch
from medseg.errors import OutputError
from medseg.inference import NumericPath, Segmenter
from medseg.model import load_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn


def test_options_are_checked() -> None:
    with pytest.raises(OutputError, match="'obj' is not known; expected some of nifti"):
        BatchOptions(formats=("nifti", "obj"))
    with pytest.raises(OutputError, match="no format"):
        BatchOptions(formats=())
    with pytest.raises(OutputError, match="one of them"):
        BatchOptions(resume=True, overwrite=True)


def test_resume_redoes_what_was_mirrored_otherwise(
    three_scans: Path, tmp_path: Path, make_model: Callable[..., Path], bright: type[nn.Module]
) -> None:
    model = load_model(make_model())
    plan = model.plan.with_settings(("infer.mirror_axes=[Z,Y]",))

    def run(*, mirrored: bool, resume: bool = True) -> dict[str, int]:
        def load(path: NumericPath | None) -> Segmenter:
            return Segmenter(plan, (bright(),), path=path or NumericPath(), model=model, mirrored=mirrored)

        options = BatchOptions(resume=resume)
        counts = run_batch(load, [three_scans], out=tmp_path / "out", options=options).counts
        return {status: count for status, count in counts.items() if count}

    assert run(mirrored=False, resume=False) == {"done": 3}
    assert run(mirrored=True) == {"done": 3}
    assert run(mirrored=True) == {"skipped": 3}

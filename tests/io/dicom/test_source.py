from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.geometry import Geometry
from medseg.io.dicom.findings import finding, status_of
from medseg.io.dicom.source import Irregular, Repairs, Slice, SourceSeries

GRID = Geometry((4, 3, 2), np.diag([5.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]])


def series(*codes, volumes=1, slices=3, geometry=None, irregular=False):
    pieces = tuple(tuple(Slice(Path(f"{v}-{z}.dcm")) for z in range(slices)) for v in range(volumes))
    return SourceSeries(
        "mr-1",
        "MR",
        pieces,
        geometry,
        tuple(finding(code, f"about {code}") for code in codes),
        irregular=Irregular(GRID, (0.0, 1.0, 3.0)) if irregular else None,
    )


def test_nothing_is_done_that_is_not_allowed():
    whole = series("four-d", "missing-slice", "mosaic", "oblique", volumes=2, irregular=True)
    assert whole.repaired(Repairs()) is whole
    assert status_of(whole.findings) == "repairable"


@pytest.mark.parametrize("code", ["missing-slice", "uneven-spacing"])
def test_resampling_takes_the_regular_grid_and_says_so(code):
    one = series(code, "gantry-tilt", irregular=True)
    assert not one.is_resampled
    done = one.repaired(Repairs(on_irregular="resample"))
    assert done.is_resampled
    assert done.geometry is GRID
    assert [f.code for f in done.findings] == [code, "gantry-tilt"]
    assert done.findings[0].message == (
        f"about {code}; interpolated onto 4 slices 5 mm apart, as --on-irregular resample asks"
    )
    assert (done.findings[0].severity, done.findings[0].remedy) == ("warning", "")
    assert status_of(done.findings) == "ok"
    assert len(done.slices) == 3


def test_an_even_series_is_not_resampled():
    one = series("oblique", geometry=GRID)
    assert one.repaired(Repairs(on_irregular="resample")) is one
    assert not one.is_resampled


def test_what_is_refused_for_good_stays_refused():
    crooked = SourceSeries(
        "ct-1",
        "CT",
        series().volumes,
        None,
        (finding("uneven-spacing", "the slices do not lie on one line", effect="refused"),),
    )
    assert status_of(crooked.repaired(Repairs(on_irregular="resample")).findings) == "refused"


def test_a_mosaic_is_taken_apart_when_asked():
    one = series("mosaic", geometry=GRID)
    done = one.repaired(Repairs(mosaic="split"))
    assert status_of(done.findings) == "ok"
    assert done.findings[0].message.endswith("taken apart into its slices, as --mosaic split asks")


def test_a_volume_is_picked_by_number():
    whole = series("four-d", "oblique", volumes=3)
    one = whole.repaired(Repairs(volume=2))
    assert one.volumes == (whole.volumes[2],)
    assert [f.code for f in one.findings] == ["oblique"]
    assert one.paths == tuple(Path(f"2-{z}.dcm") for z in range(3))


def test_all_steps_are_taken_together():
    done = series("four-d", "missing-slice", "mosaic", volumes=2, irregular=True).repaired(
        Repairs(volume=0, on_irregular="resample", mosaic="split")
    )
    assert status_of(done.findings) == "ok"
    assert [f.code for f in done.findings] == ["missing-slice", "mosaic"]
    assert done.is_resampled


def test_the_number_of_a_volume_does_not_matter_where_there_is_one():
    one = series("oblique", geometry=GRID)
    assert one.repaired(Repairs(volume=1)) is one


@pytest.mark.parametrize("volume", [-1, 2])
def test_a_volume_that_is_not_there_is_refused_in_words(volume):
    with pytest.raises(InputError, match=f"no volume {volume}"):
        series("four-d", volumes=2).repaired(Repairs(volume=volume))


def test_slices_of_several_volumes_are_not_mixed():
    with pytest.raises(InputError, match="2 volumes on one grid") as caught:
        _ = series("four-d", volumes=2).slices
    assert "--volume" in str(caught.value.remedy)

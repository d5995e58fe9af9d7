from __future__ import annotations

import math
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medseg.errors import InputError
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.voxels.suv import Uptake, factors, uptake_of

HALF_LIFE_S = 6586.2
WEIGHT_KG, DOSE_BQ = 81.0, 374e6
UNDECAYED = WEIGHT_KG * 1000 / DOSE_BQ


def header(**changes):
    """Return the header of a PET slice injected at 8:30:45, 1 h 40 min 15 s before the series began."""
    drug = Dataset()
    drug.RadiopharmaceuticalStartTime = "083045.00"
    drug.RadionuclideTotalDose = DOSE_BQ
    drug.RadionuclideHalfLife = HALF_LIFE_S
    found = Dataset()
    found.Modality, found.Units, found.DecayCorrection = "PT", "BQML", "START"
    found.CorrectedImage = ["DECY", "ATTN", "SCAT"]
    found.PatientWeight = WEIGHT_KG
    found.SeriesDate = found.AcquisitionDate = "20140618"
    found.SeriesTime, found.AcquisitionTime = "101100.00", "101100.00"
    found.RadiopharmaceuticalInformationSequence = Sequence([drug])
    for keyword, value in changes.items():
        owner = drug if keyword.startswith("Radio") and not keyword.endswith("Sequence") else found
        if value is None:
            delattr(owner, keyword)
            continue
        with quiet():
            setattr(owner, keyword, value)
    return found


def factor(dataset):
    (found,) = factors([uptake_of(dataset)])
    return found


def decayed(seconds):
    return UNDECAYED * 2 ** (seconds / HALF_LIFE_S)


def private(dataset, group, creator, element, value, vr="DS"):
    dataset.private_block(group, creator, create=True).add_new(element, vr, value)
    return dataset


def test_dose_decays_to_the_start_of_the_series():
    assert factor(header()) == pytest.approx(decayed(6015))


def test_a_uniform_phantom_has_an_uptake_of_one():
    """81 kg of water that hold the whole dose, decayed to the scan: by the definition of SUV, 1 everywhere."""
    activity = DOSE_BQ * 2 ** (-6015 / HALF_LIFE_S) / (WEIGHT_KG * 1000)
    assert activity * factor(header()) == pytest.approx(1.0)


def test_activity_at_injection_needs_no_time():
    bare = header(DecayCorrection="ADMIN", SeriesTime=None, AcquisitionTime=None, RadionuclideHalfLife=None)
    assert factor(bare) == pytest.approx(UNDECAYED)


def test_activity_without_correction_belongs_to_the_mean_time_of_its_frame():
    frame_s = 600.0
    case = header(
        DecayCorrection="NONE", CorrectedImage=["ATTN"], AcquisitionTime="103100.00", ActualFrameDuration=600000
    )
    rate = math.log(2) / HALF_LIFE_S
    mean = (1 - math.exp(-rate * frame_s)) / (rate * frame_s)  # of the activity over the frame, by that at its start
    assert factor(case) == pytest.approx(decayed(6015 + 1200) / mean)


def test_every_bed_of_a_series_has_one_factor():
    beds = [header(AcquisitionTime=f"10{minute}00.00") for minute in (11, 14, 17)]
    assert factors([uptake_of(bed) for bed in beds]) == pytest.approx([decayed(6015)] * 3)


def test_a_series_derived_later_takes_the_earliest_acquisition():
    beds = [header(SeriesTime="150000.00", AcquisitionTime=f"10{minute}00.00") for minute in (17, 11, 14)]
    assert factors([uptake_of(bed) for bed in beds]) == pytest.approx([decayed(6015)] * 3)


def test_a_series_derived_the_next_day_takes_the_earliest_acquisition():
    assert factor(header(SeriesDate="20140619", SeriesTime="090000.00")) == pytest.approx(decayed(6015))


def test_a_series_derived_later_takes_the_time_that_ge_keeps():
    case = header(SeriesTime="150000.00", AcquisitionTime="101700.00")
    private(case, 0x0009, "GEMS_PETD_01", 0x0D, "20140618101100.00", "DT")
    assert factor(case) == pytest.approx(decayed(6015))


def test_uncorrected_slices_have_a_factor_each():
    slices = [
        header(DecayCorrection="NONE", CorrectedImage=["ATTN"], AcquisitionTime=t, ActualFrameDuration=1000)
        for t in ("101100.00", "110000.00")
    ]
    first, second = factors([uptake_of(s) for s in slices])
    assert second / first == pytest.approx(2 ** (49 * 60 / HALF_LIFE_S))


def test_a_moment_is_taken_before_a_time_of_the_day():
    case = header(RadiopharmaceuticalStartTime="000000", RadiopharmaceuticalStartDateTime="20140618083045.000000")
    assert factor(case) == pytest.approx(decayed(6015))


def test_a_moment_on_another_day_falls_back_on_the_time_of_the_day():
    """Dates are shifted to protect a person, but not always all of them by the same days."""
    assert factor(header(RadiopharmaceuticalStartDateTime="20110101083045.00")) == pytest.approx(decayed(6015))


def test_an_injection_before_midnight():
    case = header(RadiopharmaceuticalStartTime="233045", SeriesTime="003045", AcquisitionTime="003045")
    assert factor(case) == pytest.approx(decayed(3600))


def test_times_without_dates():
    assert factor(header(SeriesDate=None, AcquisitionDate=None)) == pytest.approx(decayed(6015))


def test_the_old_way_of_writing_times():
    case = header(SeriesTime="10:11:00", AcquisitionTime="10:11:00", RadiopharmaceuticalStartTime="08:30:45")
    assert factor(case) == pytest.approx(decayed(6015))


def test_a_long_half_life_needs_the_day():
    long = 78.4 * 3600
    assert "half-life of days" in uptake_of(header(RadionuclideHalfLife=long))
    case = header(RadionuclideHalfLife=long, RadiopharmaceuticalStartDateTime="20140615101100")
    assert factor(case) == pytest.approx(UNDECAYED * 2 ** (3 * 24 / 78.4))


def test_units_of_philips():
    counts = header(Units="CNTS")
    assert factor(private(deepcopy(counts), 0x7053, "Philips PET Private Group", 0x00, 0.00047)) == 0.00047
    activity = private(deepcopy(counts), 0x7053, "Philips PET Private Group", 0x09, 2.5)
    assert factor(activity) == pytest.approx(2.5 * decayed(6015))
    zero = private(activity, 0x7053, "Philips PET Private Group", 0x00, 0)
    assert factor(zero) == pytest.approx(2.5 * decayed(6015))
    assert "counts" in uptake_of(counts)


def test_uptake_as_stored():
    bare = Dataset()
    bare.Units = "GML"
    assert factor(bare) == 1.0
    bare.SUVType = "BW"
    assert factor(bare) == 1.0
    bare.SUVType = "LBM"
    assert "SUVType" in uptake_of(bare)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"PatientWeight": None}, "PatientWeight"),
        ({"PatientWeight": 0}, "PatientWeight"),
        ({"PatientWeight": -3}, "PatientWeight"),
        ({"PatientWeight": 81000}, "PatientWeight"),
        ({"RadionuclideTotalDose": None}, "RadionuclideTotalDose"),
        ({"RadionuclideTotalDose": 374}, "RadionuclideTotalDose"),
        ({"RadionuclideHalfLife": None}, "RadionuclideHalfLife"),
        ({"RadionuclideHalfLife": 0}, "RadionuclideHalfLife"),
        ({"DecayCorrection": None}, "DecayCorrection"),
        ({"DecayCorrection": "SOMETIMES"}, "DecayCorrection"),
        ({"AcquisitionTime": None}, "AcquisitionTime"),
        ({"RadiopharmaceuticalStartTime": None}, "RadiopharmaceuticalStartTime"),
        ({"RadiopharmaceuticalStartTime": "999999"}, "RadiopharmaceuticalStartTime"),
        ({"RadiopharmaceuticalStartTime": "101500"}, "RadiopharmaceuticalStartTime"),
        ({"RadiopharmaceuticalInformationSequence": None}, "RadiopharmaceuticalInformationSequence"),
        ({"DecayCorrection": "NONE"}, "ActualFrameDuration"),
        ({"CorrectedImage": ["DECY"]}, "attenuation"),
        ({"CorrectedImage": ["ATTN"]}, "decay"),
        ({"CorrectedImage": None}, "attenuation"),
        ({"Units": None}, "Units"),
        ({"Units": "PCNT"}, "PCNT"),
        ({"Units": "DOE^JANE"}, "Units"),
        (
            {
                "RadiopharmaceuticalStartTime": "000000",
                "SeriesTime": "000000",
                "AcquisitionTime": "000000",
            },
            "RadiopharmaceuticalStartTime",
        ),
    ],
)
def test_what_is_missing_is_named_and_no_value_told(changes, named):
    reason = uptake_of(header(**changes))
    assert named in reason
    assert not any(c.isdigit() for c in reason)
    assert "JANE" not in reason


@pytest.mark.parametrize(
    "changes",
    [
        {"SeriesDate": "00010101", "AcquisitionDate": "00010101", "RadiopharmaceuticalStartTime": "230000"},
        {
            "DecayCorrection": "NONE",
            "AcquisitionDate": "99991231",
            "AcquisitionTime": "235900",
            "ActualFrameDuration": 10**9,
        },
        {"DecayCorrection": "NONE", "ActualFrameDuration": 1000, "RadionuclideHalfLife": 5e-324},
    ],
)
def test_what_is_on_no_calendar_gives_no_uptake(changes):
    assert uptake_of(header(**changes)) == "dates, times or durations beyond reckoning"


def test_all_that_is_missing_is_named_at_once():
    reason = uptake_of(header(PatientWeight=None, RadionuclideTotalDose=None))
    assert reason == "PatientWeight, RadionuclideTotalDose missing or not usable"


def test_a_series_is_turned_as_a_whole_or_not_at_all():
    assert factors([None, None]) == [1.0, 1.0]
    with pytest.raises(InputError, match="1 of 2 slices") as caught:
        factors([uptake_of(header()), None])
    assert caught.value.code == "bad-rescale"


def test_what_tells_of_the_patient_stays_out_of_the_text():
    assert repr(uptake_of(header())) == "Uptake(is_shared=True)"


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_no_text_in_a_time_is_an_error(series, acquired, injected):
    case = Dataset()
    case.update(header(SeriesTime=None, AcquisitionTime=None))
    for keyword, text in (("SeriesTime", series), ("AcquisitionTime", acquired)):
        case.add_new(keyword, "LO", text.replace("\\", ""))
    case.RadiopharmaceuticalInformationSequence[0].add_new(
        "RadiopharmaceuticalStartTime", "LO", injected.replace("\\", "")
    )
    assert isinstance(uptake_of(case), str | Uptake)

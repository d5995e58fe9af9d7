"""Standardised uptake values of PET: what turns the stored activity into SUV by body weight, or what is missing."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING

from medseg.errors import InputError
from medseg.io.dicom.header.attributes import text
from medseg.io.dicom.voxels.elements import item_of, number_of, private_number, private_word, word_of, words_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

_UNITS = frozenset({"CNTS", "NONE", "CM2", "CM2ML", "PCNT", "CPS", "MGMINML", "UMOLMINML", "MLMING", "MLG", "1CM"})
_PHILIPS = 0x7053, "Philips PET Private Group"
_GE = 0x0009, "GEMS_PETD_01"
_LEAST_DOSE_BQ = 1e5  # less was given to nobody: such a number is in MBq
_MOST_WEIGHT_KG = 1000.0  # more is in grams
_MOST_HALF_LIVES = 10.0  # after them a thousandth is left, of which no image is made
_DAY_S = 86400.0
_ANY_DAY = date(2000, 1, 1)  # where dates are removed: only differences count
_TIME = re.compile(r"(\d{2}):?(\d{2}):?(\d{2})?(?:\.(\d{1,6}))?")


@dataclass(frozen=True, slots=True)
class Uptake:
    """What turns the activity of one slice into SUV by body weight.

    Its numbers tell of the patient: they stay out of its text, and belong in no message.

    Attributes
    ----------
    scale : float
        SUV of one unit of the image, were there no decay between injection and scan.
    half_life_s : float
        Infinite where no decay has to be reckoned with.
    injected : datetime or None
        When the dose was measured.
    scanned : datetime or None
        What the activity of the slice is corrected to, as far as its own header tells.
    is_shared : bool
        Whether all slices of the series are corrected to one time: the earliest of them.
    """

    scale: float = field(repr=False)
    half_life_s: float = field(default=math.inf, repr=False)
    injected: datetime | None = field(default=None, repr=False)
    scanned: datetime | None = field(default=None, repr=False)
    is_shared: bool = False

    @property
    def factor(self) -> float:
        """SUV of one unit of the image."""
        if self.injected is None or self.scanned is None:
            return self.scale
        return self.scale * math.exp2((self.scanned - self.injected).total_seconds() / self.half_life_s)


class _LackingError(Exception):
    """Why there is no SUV."""


def uptake_of(dataset: Dataset) -> Uptake | str:
    """Read what turns the values of a PET slice into SUV by body weight, or say why nothing does.

    After the vendor-neutral pseudo-code of the Quantitative Imaging Biomarkers Alliance (RSNA QIBA, "Standardized
    Uptake Value (SUV)"): SUV is activity per ml times weight in g by the dose in Bq, decayed to the time that the
    activity is corrected to (Decay Correction, PS3.3 section C.8.9.1): to the start of the series, to the injection, or
    not at all, which is then the time at which the activity equals the mean over the slice's frame. SeriesTime is the
    start unless the acquisition was before it, in a series derived later: then the time that GE keeps, or the earliest
    acquisition.

    Parameters
    ----------
    dataset : Dataset
        A header.

    Returns
    -------
    Uptake or str
        The reason as a phrase that names elements and no values, where there is no SUV.
    """
    units = word_of(dataset, "Units")
    try:
        if units == "GML":
            return _as_given(dataset)
        _require_corrections(dataset)
        if units == "BQML":
            return _from_activity(dataset)
        if units == "CNTS":
            return _from_counts(dataset)
    except _LackingError as reason:
        return str(reason)
    except (ArithmeticError, ValueError):  # anonymisers leave the year 1; a day before it is on no calendar
        return "dates, times or durations beyond reckoning"
    return f"the values are in {units}" if units in _UNITS else "Units is missing or not known"


def factors(uptakes: Sequence[Uptake | None]) -> list[float]:
    """Return SUV of one unit of the image for each slice of a series; 1 where there are none.

    Raises
    ------
    InputError
        Where there are some for a part of the slices only.
    """
    known = [u for u in uptakes if u is not None]
    if not known:
        return [1.0] * len(uptakes)
    if len(known) < len(uptakes):
        raise InputError(
            f"{len(known)} of {len(uptakes)} slices can be turned into SUV",
            expected="all, or none",
            remedy="Export the series again, whole, with its weight, dose and times",
            code="bad-rescale",
        )
    earliest = min((u.scanned for u in known if u.is_shared and u.scanned is not None), default=None)
    return [(replace(u, scanned=earliest) if u.is_shared else u).factor for u in known]


def _as_given(dataset: Dataset) -> Uptake:
    if word_of(dataset, "SUVType") not in {"", "BW"}:
        raise _LackingError("the values are uptake by another measure than body weight (SUVType)")
    return Uptake(1.0)


def _require_corrections(dataset: Dataset) -> None:
    corrections = set(words_of(dataset, "CorrectedImage"))
    if "ATTN" not in corrections:
        raise _LackingError("CorrectedImage does not tell of attenuation correction")
    if word_of(dataset, "DecayCorrection") != "NONE" and not corrections & {"DECY", "DECAY"}:
        raise _LackingError("CorrectedImage does not tell of decay correction")


def _from_counts(dataset: Dataset) -> Uptake:
    """Philips stores counts, and in elements of its own what turns them into SUV, or into Bq/ml."""
    direct, activity = (private_number(dataset, *_PHILIPS, element) for element in (0x00, 0x09))
    if direct is not None and math.isfinite(direct) and direct > 0:
        return Uptake(direct)
    if activity is not None and math.isfinite(activity) and activity > 0:
        found = _from_activity(dataset)
        return replace(found, scale=found.scale * activity)
    raise _LackingError("the values are counts, and the scale of their writer is missing")


def _from_activity(dataset: Dataset) -> Uptake:
    drug = item_of(dataset, "RadiopharmaceuticalInformationSequence")
    if drug is None:
        raise _LackingError("RadiopharmaceuticalInformationSequence missing")
    correction = word_of(dataset, "DecayCorrection")
    weight_kg, dose_bq = _positive(dataset, "PatientWeight"), _positive(drug, "RadionuclideTotalDose")
    half_life_s = _positive(drug, "RadionuclideHalfLife")
    sound = {
        "PatientWeight": weight_kg is not None and weight_kg <= _MOST_WEIGHT_KG,
        "RadionuclideTotalDose": dose_bq is not None and dose_bq >= _LEAST_DOSE_BQ,
        "DecayCorrection": correction in {"START", "ADMIN", "NONE"},
        "RadionuclideHalfLife": half_life_s is not None or correction == "ADMIN",
    }
    if weight_kg is None or dose_bq is None or not all(sound.values()):
        raise _LackingError(
            f"{', '.join(name for name, is_sound in sound.items() if not is_sound)} missing or not usable"
        )
    uptake = Uptake(weight_kg * 1000.0 / dose_bq)
    return uptake if correction == "ADMIN" or half_life_s is None else _decayed(uptake, dataset, drug, half_life_s)


def _decayed(uptake: Uptake, dataset: Dataset, drug: Dataset, half_life_s: float) -> Uptake:
    """Return the uptake with the times of injection and scan."""
    is_shared = word_of(dataset, "DecayCorrection") == "START"
    acquired = _acquired(dataset)
    if is_shared:
        scanned = _scan_start(dataset, acquired)
    else:
        scanned = acquired + timedelta(seconds=_mean_time_s(dataset, half_life_s))
    injected = _injected(drug, scanned, half_life_s)
    return replace(uptake, half_life_s=half_life_s, injected=injected, scanned=scanned, is_shared=is_shared)


def _positive(dataset: Dataset, keyword: str) -> float | None:
    value = number_of(dataset, keyword)
    return value if value is not None and math.isfinite(value) and value > 0 else None


def _acquired(dataset: Dataset) -> datetime:
    """Return when the acquisition of the slice began."""
    day = _date(dataset, "AcquisitionDate") or _date(dataset, "SeriesDate") or _ANY_DAY
    clock = _time(text(dataset, "AcquisitionTime"))
    if clock is not None:
        return datetime.combine(day, clock)
    whole = _datetime(text(dataset, "AcquisitionDateTime"))
    if whole is None:
        raise _LackingError("AcquisitionTime missing or not usable")
    return whole


def _scan_start(dataset: Dataset, acquired: datetime) -> datetime:
    """Return what a slice is corrected to, as far as its header tells."""
    clock = _time(text(dataset, "SeriesTime"))
    if clock is not None:
        begun = datetime.combine(_date(dataset, "SeriesDate") or acquired.date(), clock)
        if begun <= acquired:
            return begun
    return _datetime(private_word(dataset, *_GE, 0x0D)) or acquired


def _mean_time_s(dataset: Dataset, half_life_s: float) -> float:
    """Return when within its frame the activity equals the mean over the frame, in s after its start."""
    duration_ms = _positive(dataset, "ActualFrameDuration")
    if duration_ms is None:
        raise _LackingError("ActualFrameDuration missing or not usable")
    rate = math.log(2.0) / half_life_s
    decay = rate * duration_ms / 1000.0
    return math.log(decay / -math.expm1(-decay)) / rate


def _injected(drug: Dataset, scanned: datetime, half_life_s: float) -> datetime:
    """Return when the dose was measured: the moment where it can be right, else the time of the day before the scan."""
    moment = _datetime(text(drug, "RadiopharmaceuticalStartDateTime"))
    if moment is not None and _is_sound(moment, scanned, half_life_s):
        return moment
    if half_life_s >= _DAY_S:
        raise _LackingError("RadiopharmaceuticalStartDateTime missing or not usable, with a half-life of days")
    clock = _time(text(drug, "RadiopharmaceuticalStartTime"))
    if clock is None:
        raise _LackingError("RadiopharmaceuticalStartTime missing or not usable")
    today = datetime.combine(scanned.date(), clock)
    injected = today if today <= scanned else today - timedelta(days=1)
    if not _is_sound(injected, scanned, half_life_s):
        raise _LackingError("RadiopharmaceuticalStartTime does not lie before the scan")
    return injected


def _is_sound(injected: datetime, scanned: datetime, half_life_s: float) -> bool:
    if injected == scanned and injected.time() == time(0):
        return False  # both were removed, to protect a person
    return 0.0 <= (scanned - injected).total_seconds() <= _MOST_HALF_LIVES * half_life_s


def _date(dataset: Dataset, keyword: str) -> date | None:
    digits = text(dataset, keyword).replace(".", "").replace("-", "")
    try:
        return datetime.strptime(digits, "%Y%m%d").date()
    except ValueError:
        return None


def _time(written: str) -> time | None:
    """Return a time of the day, as in ``101530.25`` or the old ``10:15:30``; midnight of removed times counts."""
    found = _TIME.match(written.strip())
    if found is None:
        return None
    hour, minute, second, fraction = found.groups()
    try:
        return time(int(hour), int(minute), min(int(second or 0), 59), int((fraction or "0").ljust(6, "0")))
    except ValueError:
        return None


def _datetime(written: str) -> datetime | None:
    """Return a moment by the scanner's clock, as in ``20140618083045.00``; a time zone after it is left out."""
    clock = _time(written.strip()[8:])
    try:
        day = datetime.strptime(written.strip()[:8], "%Y%m%d").date()
    except ValueError:
        return None
    return None if clock is None else datetime.combine(day, clock)

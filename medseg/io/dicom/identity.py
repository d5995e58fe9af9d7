"""The UIDs that one run gives to all objects it makes from one series, so that they can refer to each other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Self

from pydicom.uid import generate_uid

from medseg.io.dicom.texts import as_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medseg.labels import LabelSet


class Tracking(NamedTuple):
    """What names one structure of one case in every object that shows or measures it (PS3.3 section C.8.20.2).

    Attributes
    ----------
    id : str
        For people: the label's name, as a long string holds it.
    uid : str
        For programs: the same in SEG and SR.
    """

    id: str
    uid: str


@dataclass(frozen=True, slots=True)
class Identity:
    """The UIDs and the moment of all objects made from one series in one run.

    Attributes
    ----------
    seg_series, seg_instance : str
        Of the segmentation.
    rtstruct_series, rtstruct_instance : str
        Of the structure set.
    sr_series, sr_instance : str
        Of the report of measurements.
    tracking : mapping of int to Tracking
        By label id.
    moment : datetime
        When the objects were made, in local time as DICOM has it.
    """

    seg_series: str
    seg_instance: str
    rtstruct_series: str
    rtstruct_instance: str
    sr_series: str
    sr_instance: str
    tracking: Mapping[int, Tracking]
    moment: datetime

    @classmethod
    def new(cls, labels: LabelSet) -> Self:
        """Return an identity that nothing had before: fresh UIDs (PS3.5 section B.2), and now.

        Examples
        --------
        >>> from medseg.labels import LabelSet
        >>> labels = LabelSet.from_names({1: "liver"})
        >>> one, other = Identity.new(labels), Identity.new(labels)
        >>> one.tracking[1].id, one.tracking[1].uid == other.tracking[1].uid, one.seg_series[:5]
        ('liver', False, '2.25.')
        """
        tracking = {label.id: Tracking(as_text(label.name), _fresh()) for label in labels}
        return cls(
            seg_series=_fresh(),
            seg_instance=_fresh(),
            rtstruct_series=_fresh(),
            rtstruct_instance=_fresh(),
            sr_series=_fresh(),
            sr_instance=_fresh(),
            tracking=MappingProxyType(tracking),
            moment=datetime.now().astimezone().replace(microsecond=0),
        )


def _fresh() -> str:
    return str(generate_uid(prefix=None))

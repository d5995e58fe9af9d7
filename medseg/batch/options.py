"""What a person asks of a batch beside model, input and output."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from medseg.batch.objects import NEED_OBJECTS, AskedInstances
from medseg.batch.outputs import FORMATS
from medseg.errors import OutputError, PlanError
from medseg.io.dicom.source import Repairs
from medseg.selection import parse

if TYPE_CHECKING:
    from medseg.inference import Look
    from medseg.plan import CrfPlan

OnIrregular = Literal["refuse", "resample"]
OnMosaic = Literal["refuse", "split"]
OnNonfinite = Literal["refuse", "fill"]
SegType = Literal["binary", "labelmap"]


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How to run a batch.

    Parameters
    ----------
    formats : tuple of str
        What to write for each case; names of `medseg.batch.FORMATS`.
    select : str or None
        The rule (`medseg.selection`) a series or file must meet to be taken; empty for all, None for the plan's own.
    channels : tuple of (str, str)
        For DICOM and models of several channels: the channel's name or number, and the rule that the one series for it
        meets within its study.
    assume_registered : bool
        Whether series in different frames of reference, or apart from each other, may be channels of one case.
    volume : int or None
        Which volume of a 4-D series or file to segment, counted from 0.
    on_irregular, mosaic, on_nonfinite : str
        The steps that make a scan usable; see `medseg.io.dicom.Repairs`.
    any_modality : bool
        Whether DICOM series of modalities that the model's card does not name are segmented too.
    seg_type : {"binary", "labelmap"}
        How a DICOM SEG holds the labels: a bit plane for each, or one plane of their numbers.
    all_frames : bool
        Whether a DICOM SEG has a frame for every slice, also where a label is absent.
    instances : {"components", "watershed", "none"} or None
        How the mask is taken apart into numbered objects, whatever the plan says; None for the plan's own way.
    resume : bool
        Whether finished cases of an earlier run are kept.
    overwrite : bool
        Whether the results of an earlier run are removed first.
    ahead : {0, 1}
        Cases that are read ahead, and written behind, while the network has another; results are the same.

    Raises
    ------
    OutputError
        Where a format is not known, none is asked for, or `resume` and `overwrite` are both asked for.
    PlanError
        Where a rule is none, a channel is named twice, or a choice is not offered.
    """

    formats: tuple[str, ...] = ("nifti",)
    select: str | None = None
    channels: tuple[tuple[str, str], ...] = ()
    assume_registered: bool = False
    volume: int | None = None
    on_irregular: OnIrregular = "refuse"
    mosaic: OnMosaic = "refuse"
    on_nonfinite: OnNonfinite = "refuse"
    any_modality: bool = False
    seg_type: SegType = "binary"
    all_frames: bool = False
    instances: AskedInstances | None = None
    resume: bool = False
    overwrite: bool = False
    ahead: int = 1

    def __post_init__(self) -> None:
        """Check what was asked."""
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats:
            found = f"the format {unknown[0]!r} is not known" if unknown else "no format was asked for"
            raise OutputError(found, expected=f"some of {', '.join(FORMATS)}")
        if self.resume and self.overwrite:
            raise OutputError("both --resume and --overwrite were given", expected="one of them")
        _require_offered("--on-irregular", self.on_irregular, get_args(OnIrregular))
        _require_offered("--mosaic", self.mosaic, get_args(OnMosaic))
        _require_offered("--on-nonfinite", self.on_nonfinite, get_args(OnNonfinite))
        _require_offered("--seg-type", self.seg_type, get_args(SegType))
        if self.ahead not in (0, 1):
            raise PlanError(f"{self.ahead} cases shall be read ahead", expected="0 or 1")
        if self.instances is not None:
            _require_offered("--instances", self.instances, get_args(AskedInstances))
        _require_numbered(self.instances, self.formats)
        for rule in (self.select or "", *(rule for _, rule in self.channels)):
            parse(rule)
        _require_named_once(self.channels)

    @property
    def repairs(self) -> Repairs:
        """The steps that are allowed to make a scan usable."""
        return Repairs(self.volume, self.on_irregular, self.mosaic, self.on_nonfinite)

    def fingerprint(self, **how: Any) -> str:
        """Return what of the options, and of how the segmenter was loaded, a case depends on, as text.

        Equal text means equal results. `how` is what `to_json` takes.
        """
        asked = self.to_json(**how) | {"formats": sorted(set(self.formats))}
        return json.dumps({name: asked[name] for name in sorted(asked) if name not in {"select", "any_modality"}})

    def to_json(
        self,
        *,
        mirrored: bool = False,
        crf: CrfPlan | None = None,
        fast: bool = False,
        look: Look = "whole",
        within: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return what the manifest tells of the options."""
        return {
            "formats": list(dict.fromkeys(self.formats)),
            "select": self.select or "",
            "channels": dict(self.channels),
            "assume_registered": self.assume_registered,
            "any_modality": self.any_modality,
            "repairs": {
                "volume": self.volume,
                "on_irregular": self.on_irregular,
                "mosaic": self.mosaic,
                "on_nonfinite": self.on_nonfinite,
            },
            "seg_type": self.seg_type,
            "all_frames": self.all_frames,
            "instances": self.instances or "none",
            "tta": mirrored,
            "crf": None if crf is None else crf.model_dump(mode="json"),
            **({"fast": True} if fast else {}),
            **({} if look == "whole" else {"look": look}),
            **({} if within is None else {"within": within}),
        }


def _require_numbered(instances: AskedInstances | None, formats: tuple[str, ...]) -> None:
    needing = [name for name in formats if name in NEED_OBJECTS]
    if instances == "none" and needing:
        raise PlanError(
            f"--instances none was given, and the format {needing[0]}", expected="--instances components or watershed"
        )


def _require_offered(flag: str, value: str, offered: tuple[str, ...]) -> None:
    if value not in offered:
        raise PlanError(f"{flag} was given {value!r}", expected=" or ".join(offered))


def _require_named_once(channels: tuple[tuple[str, str], ...]) -> None:
    names = [name for name, _ in channels]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise PlanError(f"the channel {twice!r} has several rules", expected="one --channel for each")
    blank = next((name for name, rule in channels if not str(parse(rule))), None)
    if blank is not None:
        raise PlanError(f"the channel {blank!r} has no rule", expected="one such as --channel T1='description~T1'")

"""What a person asks of a batch beside model, input and output."""

from __future__ import annotations

import json
from dataclasses import dataclass

from medseg.batch.outputs import FORMATS
from medseg.errors import OutputError


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How to run a batch.

    Parameters
    ----------
    formats : tuple of str
        What to write for each case; names of `medseg.batch.FORMATS`.
    volume : int or None
        Which volume of a 4-D series or file to segment, counted from 0.
    any_modality : bool
        Whether DICOM series of modalities that the model's card does not name are segmented too.
    resume : bool
        Whether finished cases of an earlier run are kept.
    overwrite : bool
        Whether the results of an earlier run are removed first.

    Raises
    ------
    OutputError
        Where a format is not known, none is asked for, or `resume` and `overwrite` are both asked for.
    """

    formats: tuple[str, ...] = ("nifti",)
    volume: int | None = None
    any_modality: bool = False
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Check what was asked."""
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats:
            found = f"the format {unknown[0]!r} is not known" if unknown else "no format was asked for"
            raise OutputError(found, expected=f"some of {', '.join(FORMATS)}")
        if self.resume and self.overwrite:
            raise OutputError("both --resume and --overwrite were given", expected="one of them")

    def fingerprint(self, *, mirrored: bool = False) -> str:
        """Return what of the options, and of how the segmenter was loaded, a case depends on, as text.

        Equal text means equal results.
        """
        return json.dumps({"formats": sorted(set(self.formats)), "volume": self.volume, "mirrored": mirrored})

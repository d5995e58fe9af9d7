"""The errors of medseg: sentences a person can act on.

The tree::

    MedsegError
    ├── InputError        a file, folder or data set that cannot be used as it is
    ├── OutputError       a result that could not be written, or did not read back as written
    ├── GeometryError     grids that do not make sense, or do not belong together
    ├── PlanError         a recipe, plan or setting that contradicts itself or the data
    ├── ModelError        a model folder that is damaged, foreign or does not fit
    └── MissingExtraError an optional part of medseg that is not installed

Every message has up to four parts: what was *found*, what was *expected*, *where* (file or case), and the
*remedy*. No part ever holds a patient attribute.
"""

from __future__ import annotations

from typing import Self


class MedsegError(Exception):
    """Say what was found, what was expected, where, and what to do.

    Parameters
    ----------
    found : str
        The fact, as a phrase: ``"the mask has 3 slices"``.
    expected : str, optional
        What would have been right: ``"4 slices, as the image has"``.
    where : str, optional
        File or case the fact belongs to. Never a patient's name or number.
    remedy : str, optional
        What the person can do about it, as a sentence.
    code : str, optional
        A finding code (see ``medseg.io.dicom.findings``), for programs.

    Examples
    --------
    >>> print(MedsegError("the mask has 3 slices", expected="4, as the image has", where="case_01"))
    case_01: the mask has 3 slices; expected 4, as the image has.
    """

    def __init__(self, found: str, *, expected: str = "", where: str = "", remedy: str = "", code: str = "") -> None:
        self.found = found
        self.expected = expected
        self.where = where
        self.remedy = remedy
        self.code = code
        super().__init__(found)

    def __str__(self) -> str:
        """Return the four parts as one or two sentences."""
        text = f"{self.where}: {self.found}" if self.where else self.found
        if self.expected:
            text += f"; expected {self.expected}"
        text = text.rstrip(".") + "."
        if self.remedy:
            text += f" {self.remedy.rstrip('.')}."
        return text

    def at(self, where: str) -> Self:
        """Return the same error with its place named, unless a place is named already.

        Facts are raised deep down, where the file is not known; the caller that knows it raises
        ``error.at(path) from error``.
        """
        place = self.where or where
        return type(self)(self.found, expected=self.expected, where=place, remedy=self.remedy, code=self.code)


class InputError(MedsegError):
    """A file, folder or data set cannot be used as it is."""


class OutputError(MedsegError):
    """A result could not be written, or did not read back as written."""


class GeometryError(MedsegError):
    """A grid does not make sense, or two grids do not belong together."""


class PlanError(MedsegError):
    """A recipe, plan or setting contradicts itself or the data."""


class ModelError(MedsegError):
    """A model folder is damaged, foreign, or does not fit the data."""


class MissingExtraError(MedsegError):
    """An optional part of medseg is not installed."""

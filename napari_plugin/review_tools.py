"""The tools of the Review dock: from a label and a few settings to an edit of the open mask. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError
from medseg.review import edits
from medseg.review.changes import Edit

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from medseg.review import OpenCase


@dataclass(frozen=True, slots=True)
class Settings:
    """What the tools need to be told.

    Attributes
    ----------
    sigma_mm : float
        Width of the smoothing.
    axis : int
        Slices lie across this axis of the mask's array.
    """

    sigma_mm: float = 1.5
    axis: int = 0


@dataclass(frozen=True, slots=True)
class Tool:
    """A button: what it is called, what it says, and what it makes of the block of a label."""

    title: str
    tip: str
    change: Callable[[NDArray[Any], int, Settings, tuple[float, float, float]], NDArray[Any]]
    is_spread: bool = False

    def edit(self, case: OpenCase, label: int, settings: Settings) -> Edit:
        """Return what the tool changes of a label on the open mask, which is left as it is.

        Raises
        ------
        InputError
            Where the label is absent, or the tool has nothing to work on.
        """
        spacing = case.scan.geometry.spacing_mm
        margin = edits.smoothing_margin(settings.sigma_mm, spacing) if self.is_spread else (0, 0, 0)
        box = edits.label_box(case.mask, label, margin=margin) if label else None
        if box is None:
            raise InputError(f"the label {label} is nowhere in the mask", remedy="Select a label that is drawn")
        block = self.change(case.mask[box.slices], label, settings, spacing)
        return Edit.of_block(case.mask, box, block)


TOOLS = {
    "islands": Tool(
        "Remove islands",
        "Keep only the largest piece of the selected label, in 3-D",
        lambda block, label, _settings, _spacing: edits.remove_islands(block, label),
    ),
    "holes": Tool(
        "Fill holes",
        "Fill what the selected label encloses in its slices",
        lambda block, label, settings, _spacing: edits.fill_holes(block, label, axis=settings.axis),
    ),
    "smooth": Tool(
        "Smooth",
        "Smooth the surface of the selected label, in 3-D",
        lambda block, label, settings, spacing: edits.smooth(
            block, label, sigma_mm=settings.sigma_mm, spacing_mm=spacing
        ),
        is_spread=True,
    ),
    "between": Tool(
        "Fill between slices",
        "Draw the selected label in some slices; this fills the empty ones between them",
        lambda block, label, settings, spacing: edits.fill_between(
            block, label, axis=settings.axis, spacing_mm=spacing
        ),
    ),
}

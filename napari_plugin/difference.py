"""Where two versions of a mask differ, as a layer and as a sentence. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.colormaps import DirectLabelColormap

from napari_plugin.bridge import LayerData
from napari_plugin.painting import shown_in
from napari_plugin.source import KEY

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

    from medseg.review import Comparison

NAME = "difference"
_COLOURS = {None: "transparent", 0: "transparent", 1: "#4daf4a", 2: "#e41a1c", 3: "#ffb000"}
_NAMES = {"index": [0, 1, 2, 3], "name": ["equal", "added", "removed", "another label"]}


def difference_layer(viewer: ViewerModel, found: Comparison, beside: Labels, layer: Labels | None) -> Labels:
    """Show a comparison where the mask's layer `beside` lies, in a layer that is there or in a new one; return it."""
    display = beside.metadata[KEY].display
    arguments = {
        "name": NAME,
        "affine": display.affine,
        "units": ("mm",) * 3,
        "axis_labels": ("z", "y", "x"),
        "colormap": DirectLabelColormap(color_dict=_COLOURS),
        "features": _NAMES,
        "opacity": 0.8,
    }
    shown: Labels = shown_in(viewer, LayerData(display.view(found.difference_zyx), arguments, "labels"), layer)
    shown.editable = False
    return shown


def said_of(found: Comparison) -> str:
    """Return a comparison as a sentence.

    Examples
    --------
    >>> import numpy as np
    >>> from medseg.geometry import Geometry
    >>> from medseg.review import Comparison
    >>> grid = Geometry((1, 1, 1), np.eye(4))
    >>> said_of(Comparison({"liver": 0.5, "spleen": None}, 7, np.zeros((1, 1, 1), np.uint8), grid))
    '7 voxels differ. Dice: liver 0.500, spleen –. Green added, red removed, amber another label.'
    """
    dice = ", ".join(f"{name} {'–' if value is None else f'{value:.3f}'}" for name, value in found.dice.items())
    return f"{found.voxels_differing} voxels differ. Dice: {dice}. Green added, red removed, amber another label."

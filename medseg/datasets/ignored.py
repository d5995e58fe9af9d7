"""Which value of a data set's masks stands for voxels that nobody decided on.

What is said counts first: ``ignore`` in ``labels.yaml``, or among the labels of a ``dataset.json``. Where nothing is
said, 255 is such a value in the layout of Pascal VOC and in pictures with a palette, as VOC draws the rims of objects
(Everingham 2010, IJCV 88:303). Elsewhere 255 is an id like any other: in a mask of 0 and 255 it is the foreground.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.datasets.label_file import read_ignore
from medseg.errors import InputError
from medseg.io.images import colour_table

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.datasets.listing import Listing

VOC_IGNORE = 255
VOC_MASKS = "segmentationclass"
"""The name of the folder that holds the masks in the layout of VOC, in lower case."""


def ignored_id(listing: Listing) -> int | None:
    """Return the value of a data set's undecided voxels; ``None`` where there is none.

    Raises
    ------
    InputError, PlanError
        Where ``labels.yaml`` is there and cannot be understood, or the value said to be ignored is a label.
    """
    said = listing.ignore
    masks = [case.reference for case in listing.cases if case.reference is not None]
    if said is None and masks:
        usual = usual_ignore(masks[0])
        said = None if usual in listing.labels.ids else usual
    ignore = read_ignore(listing.root, default=said)
    if ignore in listing.labels.ids:
        raise InputError(f"the id {ignore} is to be ignored and is a label", expected="one of the two")
    return ignore


def usual_ignore(mask: Path) -> int | None:
    """Return the value that undecided voxels have in a mask of which nothing is said.

    Parameters
    ----------
    mask : Path
        A mask; of a picture the header is read.
    """
    if mask.parent.name.lower() == VOC_MASKS:
        return VOC_IGNORE
    try:
        return None if colour_table(mask) is None else VOC_IGNORE
    except InputError:  # said where the mask itself is read
        return None

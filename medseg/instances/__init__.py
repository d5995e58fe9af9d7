"""From a class mask to numbered objects: taken apart, measured, counted.

A semantic mask says what each voxel is; where two cells or lesions touch, it does not say where one ends. `separate`
numbers the objects of a mask, `measured` makes a table of them, and `summarised` counts them. Everything is pure.
"""

from __future__ import annotations

from medseg.instances.objects import Objects, separate
from medseg.instances.pieces import components, watershed
from medseg.instances.table import COLUMNS, Measured, measured, summarised, table_text

__all__ = [
    "COLUMNS",
    "Measured",
    "Objects",
    "components",
    "measured",
    "separate",
    "summarised",
    "table_text",
    "watershed",
]

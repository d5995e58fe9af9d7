"""A trained model in the formats of other programs, each with an example and a record of how well it agrees.

`export_model` writes a folder that explains itself: the plan, what happens before and after the network in words and
numbers, one file per ensemble member, an example, and ``parity.json``. `medseg.Segmenter` runs it, too.
"""

from __future__ import annotations

from medseg.export.folder import Report, export_model

__all__ = ["Report", "export_model"]

"""Which items of a folder are taken: selection rules over what an inventory knows of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.io.dicom.findings import Finding, finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.io.dicom import Item
    from medseg.selection import Condition, Fact, Rule


def facts_of(item: Item) -> dict[str, Fact]:
    """Return what a rule can be judged by; of a file that cannot be read, no more than its id and kind.

    A series whose slices lie unevenly is judged by the grid it may be interpolated onto.
    """
    facts: dict[str, Fact] = {"id": item.id, "kind": item.kind}
    if item.kind == "unreadable":
        return facts
    irregular = None if item.source is None else item.source.irregular
    geometry = irregular.geometry if item.geometry is None and irregular is not None else item.geometry
    spacing = item.spacing_mm or (None if geometry is None else geometry.spacing_mm)
    return facts | {
        "modality": item.modality or "",
        "description": item.traits.description,
        "protocol": item.traits.protocol,
        "body_part": item.traits.body_part,
        "plane": "none" if geometry is None else geometry.orientation,
        "spacing": None if spacing is None else spacing[0],
        "pixel": None if spacing is None else max(spacing[1:]),
        "slices": None if item.shape is None else float(item.shape[0]),
        "volumes": float(item.volumes),
    }


def left_out(item: Item, rule: Rule) -> Finding | None:
    """Return why an item is not meant, in the rule's own words: what the item is called is never told."""
    unmet = rule.unmet(facts_of(item))
    return finding("not-selected", f"it does not meet {_named(unmet)}") if unmet else None


def meets(item: Item, rule: Rule) -> bool:
    """Tell whether an item is meant."""
    return not rule.unmet(facts_of(item))


def _named(conditions: Sequence[Condition]) -> str:
    return " nor ".join(dict.fromkeys(str(condition) for condition in conditions))

"""UIDs that follow from what they stand for: the same input gives the same UID."""

from __future__ import annotations

import uuid

_NAMESPACE = uuid.UUID("6d656473-6567-5d1c-8f00-000000000000")  # ours alone: "medseg" in its first bytes


def derived_uid(*parts: str) -> str:
    """Return a UID made from `parts`, under the root for UUIDs (PS3.5 section B.2).

    Examples
    --------
    >>> derived_uid("phantom", "1") == derived_uid("phantom", "1"), derived_uid("phantom", "2")[:5]
    (True, '2.25.')
    """
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join(parts)).int}"

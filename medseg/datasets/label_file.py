"""``labels.yaml`` beside a data set or beside references: names of labels, and which structures they are drawn as.

In short, ids and names in either direction; a name may be a pattern of structures' names, several of one label::

    GTV_Mass*: 1
    Tumour*: 1
    overlap: later wins

In full::

    labels: {1: GTV, 2: necrosis}
    rois: {"GTV_Mass*": 1, "necrosis*": 2, "BODY": 0}   # 0 leaves a structure out knowingly
    overlap: later wins                                 # else a voxel in two labels is refused
    threshold: 0.5                                      # for fractional SEG

In either form ``ignore: 255`` names the value of voxels that nobody decided on (docs/images2d.md); alone in the file,
it leaves the names to the masks. ``ignore: none`` says that no value is such.

With nested structures ``regions: {"whole tumour": [1, 2], "core": 2}`` takes the place of ``rois``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from medseg.datasets.listing import id_and_name, labels_from_mapping, read_json, split_ignore
from medseg.documents import read_yaml
from medseg.errors import InputError, PlanError
from medseg.labels import LabelSet
from medseg.rois import RoiRules, name_of_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from medseg.rois import Overlap

T = TypeVar("T")
LABEL_FILES = ("labels.yaml", "labels.yml", "labels.json")
_OPTIONS = ("overlap", "order", "threshold")
_FULL = ("labels", "rois", "regions")


def read_label_file(folder: Path) -> RoiRules | None:
    """Return what ``labels.yaml`` or ``labels.json`` in a folder says of labels; ``None`` where it says nothing.

    Raises
    ------
    InputError, PlanError
        Where the file is there and cannot be understood.
    """

    def rules(document: object) -> RoiRules | None:
        return None if document and split_ignore(document)[0] == {} else rules_from(document)

    return _read(folder, rules, None)


def read_ignore(folder: Path, *, default: int | None = None) -> int | None:
    """Return the value of undecided voxels that ``labels.yaml`` in a folder names; `default` where it does not say.

    Raises
    ------
    InputError, PlanError
        Where the file is there and cannot be understood.
    """

    def ignored(document: object) -> int | None:
        return _without_ignore(document, default)[1]

    return _read(folder, ignored, default)


def _read(folder: Path, what: Callable[[object], T], default: T) -> T:
    """Return what the label document in a folder says, or `default` without one; a fault in it names the file."""
    path = next((folder / name for name in LABEL_FILES if (folder / name).is_file()), None)
    if path is None:
        return default
    document = read_json(path) if path.suffix == ".json" else read_yaml(path)
    try:
        return what(document)
    except (InputError, PlanError) as error:
        raise error.at(str(path)) from error


def _without_ignore(document: object, default: int | None = None) -> tuple[object, int | None]:
    """Part a label document, in any form, from what it says is to be ignored."""
    rest, ignore = split_ignore(document, default)
    if isinstance(rest, dict) and isinstance(rest.get("labels"), dict):
        labels, ignore = split_ignore(rest["labels"], ignore)
        rest = {**rest, "labels": labels}
    return rest, ignore


def rules_from(document: object) -> RoiRules:
    """Return what a label document says, in any of its forms.

    Raises
    ------
    InputError, PlanError
        Where it is in none of them, or contradicts itself.

    Examples
    --------
    >>> rules = rules_from({"GTV_Mass*": 1, "Tumour*": 1, "liver": 2})
    >>> rules.labels.names, rules.patterns
    (('GTV_Mass', 'liver'), (('GTV_Mass*', 1), ('Tumour*', 1), ('liver', 2)))
    """
    document, ignore = _without_ignore(document)
    rules = _rules_from(document)
    if ignore in rules.labels.ids:
        raise InputError(f"the id {ignore} is to be ignored and is a label", expected="one of the two")
    return rules


def _rules_from(document: object) -> RoiRules:
    if isinstance(document, list):
        return RoiRules.from_labels(LabelSet.from_json(document))
    if not isinstance(document, dict) or not document:
        raise InputError("the labels are not a mapping of ids and names", expected="such as '1: liver'")
    entries = {_key(key): value for key, value in document.items()}
    if any(isinstance(entries.get(key), (dict, list)) for key in _FULL):
        return _full(entries)
    named = [key for key in _OPTIONS if key in entries and (key == "threshold" or not _is_whole(entries[key]))]
    options = {key: entries.pop(key) for key in named}
    patterns = tuple(_pattern(key, value) for key, value in entries.items())
    labels = _labels_of(patterns)
    if not len(labels):
        raise InputError("no label is named", expected="a name and an id from 1 on, such as 'GTV*: 1'")
    return RoiRules(labels, patterns, overlap=_overlap(options), threshold=_threshold(options))


def _full(document: Mapping[str, Any]) -> RoiRules:
    unknown = sorted(set(document) - {*_FULL, *_OPTIONS})
    if unknown:
        raise InputError(f"the key {unknown[0]!r} is not understood", expected=f"{', '.join((*_FULL, *_OPTIONS))}")
    patterns = tuple(_roi(key, value) for key, value in _mapping(document, "rois").items())
    labels = _labels(document.get("labels")) if "labels" in document else _labels_of(patterns)
    regions = tuple(_region(key, value) for key, value in _mapping(document, "regions").items())
    if not len(labels):
        raise InputError("no label is named", expected="ids and names, such as 'labels: {1: GTV}'")
    if not patterns and not regions:
        return replace(RoiRules.from_labels(labels), overlap=_overlap(document), threshold=_threshold(document))
    return RoiRules(labels, patterns, regions, _overlap(document), _threshold(document))


def _labels(document: object) -> LabelSet:
    return LabelSet.from_json(document) if isinstance(document, list) else labels_from_mapping(document)


def _labels_of(patterns: tuple[tuple[str, int], ...]) -> LabelSet:
    """Return the labels that patterns speak of, each called as its first pattern without wildcards."""
    names: dict[int, str] = {}
    for pattern, label_id in patterns:
        names.setdefault(label_id, name_of_pattern(pattern) or f"label_{label_id}")
    return LabelSet.from_names(names)


def _pattern(key: str, value: object) -> tuple[str, int]:
    """Return pattern and id of ``pattern: id`` or ``id: pattern``."""
    label_id, name = id_and_name(key, value)
    return name, label_id


def _roi(key: str, value: object) -> tuple[str, int]:
    if not _is_whole(value) or value < 0:
        raise InputError(f"the structures {key!r} are mapped to {value!r}", expected="the id of a label, or 0")
    return key, value


def _region(key: str, value: object) -> tuple[str, tuple[int, ...]]:
    ids = value if isinstance(value, list) else [value]
    if not ids or not all(_is_whole(i) for i in ids):
        raise InputError(f"the region {key!r} is {value!r}", expected="the ids of the labels it covers")
    return key, tuple(sorted(set(ids)))


def _key(key: object) -> str:
    """Return a key as text; YAML takes ``no`` and ``on`` for truth, ``1.5`` for a number."""
    if not isinstance(key, str) and not _is_whole(key):
        raise InputError(f"the name {key!r} is no text", expected="names in quotes, such as '\"no\": 1'")
    return str(key)


def _mapping(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{key} is no mapping", expected="names of structures and what they are")
    return {_key(name): entry for name, entry in value.items()}


def _overlap(document: Mapping[str, Any]) -> Overlap:
    given = [document[key] for key in ("overlap", "order") if key in document]
    words = {" ".join(str(value).lower().replace("_", " ").replace("-", " ").split()) for value in given}
    if not words or words == {"refuse"}:
        return "refuse"
    if words == {"later wins"}:
        return "later wins"
    raise InputError(f"the overlap is {' and '.join(sorted(words))!r}", expected="'refuse' or 'later wins'")


def _threshold(document: Mapping[str, Any]) -> float | None:
    value = document.get("threshold")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"the threshold is {value!r}", expected="a number above 0 and up to 1")
    return float(value)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)

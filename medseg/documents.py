"""YAML documents in and out, safely: plain values only, no aliases, no tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from medseg.errors import PlanError

if TYPE_CHECKING:
    from pathlib import Path

MAX_DOCUMENT_BYTES = 16_000_000
_NO_ALIAS = "Write the value out; put a text that begins with * or & in quotes"


class _PlainLoader(yaml.SafeLoader):
    """A safe loader that refuses aliases (a few bytes of them can stand for gigabytes) and keys that occur twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise PlanError("the document uses a YAML alias", expected="plain values", remedy=_NO_ALIAS)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - as the base class has it
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) != len(node.value):
            keys = [key.value for key, _ in node.value]
            twice = next((key for key in keys if keys.count(key) > 1), "a key")
            raise PlanError(f"{twice!r} occurs twice", expected="each key once", remedy="Remove one of them")
        return mapping


class _PlainDumper(yaml.SafeDumper):
    """A safe dumper that writes short lists on one line and never an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.Node:
    flow = all(isinstance(v, (int, float, str, bool)) or v is None for v in values)
    nested = all(isinstance(v, list) and all(isinstance(w, (int, float)) for w in v) for v in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=flow or nested)


_PlainDumper.add_representer(list, _represent_list)


def parse_yaml(text: str, *, where: str = "") -> Any:
    """Return the plain value a YAML text describes.

    Raises
    ------
    PlanError
        Where the text is not YAML, or uses aliases or tags.

    Examples
    --------
    >>> parse_yaml("a: [1, 2]")
    {'a': [1, 2]}
    """
    try:
        return yaml.load(text, Loader=_PlainLoader)  # noqa: S506 - a SafeLoader, made stricter
    except (yaml.YAMLError, ValueError) as error:  # a date of month 13 is a ValueError
        raise PlanError(f"the text is not YAML: {' '.join(str(error).split())}", where=where) from error
    except RecursionError as error:
        raise PlanError("the document is nested too deeply", expected="a plain document", where=where) from error
    except PlanError as error:
        raise error.at(where) from error


def read_yaml(path: Path) -> Any:
    """Return the plain value a YAML file describes; see `parse_yaml`."""
    try:
        if path.stat().st_size > MAX_DOCUMENT_BYTES:
            raise PlanError(f"the file has {path.stat().st_size} bytes", expected="a YAML document", where=str(path))
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise PlanError("there is no such file", where=str(path), remedy="Correct the path") from error
    except (OSError, UnicodeDecodeError) as error:
        found = f"the file cannot be read as text ({type(error).__name__})"
        raise PlanError(found, where=str(path), remedy="Give a YAML file in UTF-8") from error
    return parse_yaml(text, where=str(path))


def format_yaml(value: Any) -> str:
    """Return a plain value as YAML text, keys in the order given.

    Examples
    --------
    >>> print(format_yaml({"b": [1, 2], "a": None}), end="")
    b: [1, 2]
    a: null
    """
    return str(yaml.dump(value, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=120))

"""YAML in and out: plain values, or a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg import documents
from medseg.documents import format_yaml, parse_yaml, read_yaml
from medseg.errors import PlanError

if TYPE_CHECKING:
    from pathlib import Path

text = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")))  # PyYAML folds exotic line ends
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=15,
)


@given(plain)
def test_plain_values_come_back(value: object):
    assert parse_yaml(format_yaml(value)) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x [1]\nb: *x", "alias"),
        ("a: &a [*a]", "alias"),
        ("<<: &m {a: 1}\nb: {<<: *m}", "alias"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
        ("!!python/name:os.system", "not YAML"),
        ("a: [1", "not YAML"),
        ("a: b: c", "not YAML"),
        ("\0", "not YAML"),
        ("{[1]: 2}", "not YAML"),
        ("when: 2024-13-45", "not YAML"),
        ("[" * 100_000, "nested too deeply|not YAML"),
        ("a: 1\nb: 2\na: 3", "'a' occurs twice"),
        ("outer:\n  a: 1\n  a: 3", "'a' occurs twice"),
        ("--- 1\n--- 2", "not YAML"),
    ],
)
def test_what_is_not_plain_is_refused_with_its_place(text: str, reason: str):
    with pytest.raises(PlanError, match=reason) as caught:
        parse_yaml(text, where="some.yaml")
    assert str(caught.value).startswith("some.yaml: ")
    assert len(str(caught.value)) < 500


def test_lists_of_numbers_stay_on_one_line():
    assert (
        format_yaml({"b": [1, 2], "a": [[1, 2], [3, 4]], "c": [{"d": 1}]})
        == "b: [1, 2]\na: [[1, 2], [3, 4]]\nc:\n- d: 1\n"
    )


def test_a_value_used_twice_is_written_twice():
    shared = [1, 2]
    assert parse_yaml(format_yaml({"a": shared, "b": shared})) == {"a": [1, 2], "b": [1, 2]}


def test_files_are_read_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.yaml"
    with pytest.raises(PlanError, match="there is no such file"):
        read_yaml(path)
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(PlanError, match="cannot be read as text"):
        read_yaml(path)
    path.write_text("a: ü", encoding="utf-8")
    assert read_yaml(path) == {"a": "ü"}
    monkeypatch.setattr(documents, "MAX_DOCUMENT_BYTES", 3)
    with pytest.raises(PlanError, match="5 bytes") as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)
    with pytest.raises(PlanError, match="there is no such file"):
        read_yaml(tmp_path / "folder.yaml" / "x")

"""labels.yaml in all its forms, and every way to get it wrong in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from medseg.datasets import read_label_file
from medseg.errors import InputError, PlanError

if TYPE_CHECKING:
    from pathlib import Path


def read(folder: Path, text: str):
    (folder / "labels.yaml").write_text(text)
    return read_label_file(folder)


@pytest.mark.parametrize("text", ["GTV_Mass*: 1\n", "1: GTV_Mass*\n", "rois: {'GTV_Mass*': 1}\n"])
def test_a_pattern_names_its_label(tmp_path: Path, text: str) -> None:
    rules = read(tmp_path, text)
    assert (rules.labels.names, rules.labels.ids, rules.patterns) == (("GTV_Mass",), (1,), (("GTV_Mass*", 1),))
    assert (rules.overlap, rules.threshold) == ("refuse", None)


def test_several_patterns_of_one_label_and_options_beside_them(tmp_path: Path) -> None:
    rules = read(tmp_path, "GTV*: 1\nTumour*: 1\nliver: 2\nBODY: 0\noverlap: later wins\nthreshold: 0.5\n")
    assert rules.labels.names == ("GTV", "liver")
    assert rules.patterns == (("GTV*", 1), ("Tumour*", 1), ("liver", 2), ("BODY", 0))
    assert (rules.overlap, rules.threshold) == ("later wins", 0.5)


def test_a_threshold_of_one_is_no_label(tmp_path: Path) -> None:
    rules = read(tmp_path, "GTV: 1\nthreshold: 1\n")
    assert (rules.labels.names, rules.threshold) == (("GTV",), 1.0)


def test_a_label_may_be_called_as_an_option(tmp_path: Path) -> None:
    assert read(tmp_path, "overlap: 1\nlabels: 2\n").labels.names == ("overlap", "labels")


def test_the_full_form(tmp_path: Path) -> None:
    rules = read(tmp_path, "labels: {1: GTV}\nrois: {'GTV_*': 1, Body: 0}\norder: later-wins\n")
    assert rules.labels.names == ("GTV",)
    assert rules.patterns == (("GTV_*", 1), ("Body", 0))
    assert rules.overlap == "later wins"
    named = read(tmp_path, "labels:\n- {id: 4, name: liver, color: [1, 2, 3]}\noverlap: refuse\n")
    assert (named.labels[4].color, named.patterns) == ((1, 2, 3), (("liver", 4),))


def test_regions_of_nested_structures(tmp_path: Path) -> None:
    rules = read(tmp_path, "labels: {1: edema, 2: core}\nregions: {whole: [2, 1], 'core*': 2}\n")
    assert rules.regions == (("whole", (1, 2)), ("core*", (2,)))


def test_without_a_file_there_are_no_rules(tmp_path: Path) -> None:
    assert read_label_file(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("labels: {1: a}\nroi: {a: 1}\n", "'roi' is not understood"),
        ("labels: {1: a}\nrois: {b: 2}\n", "'b' is for 2"),
        ("labels: {1: a}\nrois: {b: one}\n", "mapped to 'one'"),
        ("labels: {1: a}\nrois: [b]\n", "rois is no mapping"),
        ("labels: {1: a}\nregions: {b: x}\n", "the region 'b' is 'x'"),
        ("a: 1\noverlap: earlier wins\n", "overlap is 'earlier wins'"),
        ("a: 1\noverlap: refuse\norder: later wins\n", "overlap is 'later wins and refuse'"),
        ("a: 1\nthreshold: much\n", "threshold is 'much'"),
        ("a: 1\nthreshold: 1.5\n", "threshold is 1.5"),
        ("a*: 1\n'a?': 2\n", "name a occurs twice"),
        ("a: -1\n", "'a': -1 is not understood"),
        ("a\n", "not a mapping"),
        ("a: 1\nthreshold: 50\n", "threshold is 50"),
        ("*GTV: 1\n", "begins with . or & in quotes"),
        ("no: 1\n", "the name False is no text"),
        ("labels: {1: a}\nrois: {on: 1}\n", "the name True is no text"),
        ("BODY: 0\n", "no label is named"),
        ("rois: {BODY: 0}\n", "no label is named"),
        ("regions: {whole: [1, 2], core: 2}\n", "no label is named"),
    ],
)
def test_what_cannot_be_understood_is_said_in_words(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises((InputError, PlanError), match=words) as error:
        read(tmp_path, text)
    assert "labels.yaml" in str(error.value)

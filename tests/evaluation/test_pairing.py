"""Pairing by id: the layouts, and every way in which two folders do not fit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from medseg.errors import InputError
from medseg.evaluation.pairing import masks_in, named_labels, pair
from medseg.labels import distinct_color

if TYPE_CHECKING:
    from pathlib import Path


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def test_both_layouts_pair_with_any_format(tmp_path: Path) -> None:
    out = touch(
        tmp_path / "out", "a/segmentation.nii.gz", "a/preview.png", "b.c/segmentation.nrrd", "d.mha", "report.html"
    )
    touch(out, "journal.sqlite", ".hidden.nii.gz", "logs/x.txt")
    references = touch(tmp_path / "ref", "a.nrrd", "b.c.nii.gz", "d.NII.GZ", "e.nii", "notes.txt")
    pairing = pair(out, references)
    assert {case: (p.name, r.name) for case, (p, r) in pairing.pairs.items()} == {
        "a": ("segmentation.nii.gz", "a.nrrd"),
        "b.c": ("segmentation.nrrd", "b.c.nii.gz"),
        "d": ("d.mha", "d.NII.GZ"),
    }
    assert list(pairing.missing) == ["e"]


def test_two_files_pair_with_each_other(tmp_path: Path) -> None:
    touch(tmp_path, "mine.nii.gz", "case_1.nii.gz")
    pairing = pair(tmp_path / "mine.nii.gz", tmp_path / "case_1.nii.gz")
    assert pairing.pairs == {"case_1": (tmp_path / "mine.nii.gz", tmp_path / "case_1.nii.gz")}


def test_the_manifest_leads_from_a_made_safe_id_to_the_reference(tmp_path: Path) -> None:
    out = touch(tmp_path / "out", "my-case-0a1b2c3d/segmentation.nii.gz", "b/segmentation.nii.gz")
    cases = [{"id": "my-case-0a1b2c3d", "inputs": ["deep/my case_0000.nii.gz"]}, {"id": "b", "inputs": []}, "nonsense"]
    (out / "manifest.json").write_text(json.dumps({"cases": cases}))
    references = touch(tmp_path / "ref", "my case.nii.gz", "b.nii.gz")
    pairing = pair(out, references)
    assert list(pairing.pairs) == ["my case", "b"] or list(pairing.pairs) == ["b", "my case"]
    assert not pairing.missing


def test_predictions_without_reference_are_an_error(tmp_path: Path) -> None:
    out = touch(tmp_path / "out", *(f"{c}.nii.gz" for c in "abcde"))
    references = touch(tmp_path / "ref", "a.nii.gz")
    with pytest.raises(InputError, match="4 predictions have no reference: b, c, d and 1 more"):
        pair(out, references)


def test_folders_that_do_not_serve_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        masks_in(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no mask"):
        masks_in(touch(tmp_path / "empty", "a.txt"))
    with pytest.raises(InputError, match=r"case a has two masks, a/segmentation.nii.gz and a.nii.gz"):
        masks_in(touch(tmp_path / "twice", "a.nii.gz", "a/segmentation.nii.gz"))


def test_names_come_from_labels_yaml_before_the_manifest(tmp_path: Path) -> None:
    cases = [{"labels": [{"id": 2, "name": "spleen"}, {"id": "x"}, 7]}, {"labels": [{"id": 1, "name": "liver"}]}]
    (tmp_path / "manifest.json").write_text(json.dumps({"cases": cases}))
    assert named_labels(tmp_path).names == ("liver", "spleen")
    (tmp_path / "labels.yaml").write_text("- {id: 4, name: heart}\n")
    assert named_labels(tmp_path).names == ("heart",)
    (tmp_path / "labels.yaml").write_text("aorta: 4\n")
    assert named_labels(tmp_path).names == ("aorta",)
    (tmp_path / "labels.yaml").write_text("aorta\n")
    with pytest.raises(InputError, match=r"labels\.yaml: the labels are not a mapping"):
        named_labels(tmp_path)


def test_colours_come_from_the_manifest_where_they_are_colours(tmp_path: Path) -> None:
    wrong: list[object] = [None, [1, 2], [1, 2, 256], [-1, 2, 3], [True, 2, 3], [1.0, 2, 3], "123", {"r": 1}]
    cases = [
        {"labels": [{"id": 1, "name": "liver", "color": [1, 2, 3]}, {"id": 2, "name": "spleen"}]},
        {"labels": [{"id": 1, "name": "liver", "color": [9, 9, 9]}, {"id": 2, "name": "spleen", "color": [4, 5, 255]}]},
        {"labels": [{"id": 10 + n, "name": f"odd {n}", "color": color} for n, color in enumerate(wrong)]},
    ]
    (tmp_path / "manifest.json").write_text(json.dumps({"cases": cases}))
    labels = named_labels(tmp_path)
    assert [label.color for label in labels][:2] == [(1, 2, 3), (4, 5, 255)]
    assert [label.color for label in labels][2:] == [distinct_color(2 + n) for n in range(len(wrong))]


@pytest.mark.parametrize("text", ["{", "\xff", "[" * 100_000])
def test_a_broken_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"manifest.json: the manifest cannot be read"):
        named_labels(tmp_path)

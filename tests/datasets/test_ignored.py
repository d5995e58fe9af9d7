"""Which value is ignored: what is said, else 255 of palettes and of VOC, else nothing: 255 beside 0 is foreground."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from medseg.datasets import check_dataset, open_dataset, read_case, with_labels
from medseg.errors import InputError, PlanError
from medseg.labels import LabelSet, voc_color
from medseg.planning import fingerprint
from medseg.volume import Segmentation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.datasets.conftest import Writer

VOC = [colour for i in range(256) for colour in voc_color(i)]
GREYS = [i for i in range(256) for _ in range(3)]


@pytest.fixture
def pairs(tmp_path: Path) -> Callable[..., Path]:
    """Write one pair into `images` and `masks`; rows of the mask hold `values`."""

    def write(*values: int, palette: list[int] | None = None, said: str = "") -> Path:
        mask = np.repeat(np.array(values, np.uint8)[:, None], 6, axis=1)
        noise = np.random.default_rng(0).integers(0, 200, mask.shape).astype(np.uint8)
        noise[mask == 255] = 250
        for folder, array in (("images", noise), ("masks", mask)):
            (tmp_path / folder).mkdir()
            picture = Image.fromarray(array)
            if folder == "masks" and palette:
                picture.putpalette(palette)
            picture.save(tmp_path / folder / "a.png")
        if said:
            (tmp_path / "labels.yaml").write_text(said)
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("values", "palette", "said", "ignore", "ids"),
    [
        ((0, 255), None, "", None, (255,)),  # a binary mask
        ((0, 255), GREYS, "", None, (255,)),  # the same, saved with a palette of greys
        ((0, 255), None, "255: cell\n", None, (255,)),
        ((0, 1, 255), None, "", None, (1, 255)),  # grey: nobody said that it is ignored
        ((0, 1, 255), VOC, "", 255, (1,)),
        ((0, 1, 255), VOC, "255: rim\n1: cell\n", None, (1, 255)),  # a label by name is no value to be ignored
        ((0, 1, 255), VOC, "ignore: none\n", None, (1, 255)),
        ((0, 1, 255), None, "ignore: 255\n", 255, (1,)),
        ((0, 1, 11), None, "cell: 1\nignore: 11\n", 11, (1,)),
        ((0, 1, 11), None, "labels: {1: cell, 11: ignore}\n", 11, (1,)),
        ((0, 1, 11), None, "ignore: 11\nlabels: {1: cell}\n", 11, (1,)),
    ],
)
def test_the_rule(
    pairs: Callable[..., Path],
    values: tuple[int, ...],
    palette: list[int] | None,
    said: str,
    ignore: int | None,
    ids: tuple[int, ...],
) -> None:
    dataset = with_labels(open_dataset(pairs(*values, palette=palette, said=said)))
    assert (dataset.ignore, dataset.labels.ids) == (ignore, ids)
    _, mask = read_case(dataset.cases[0], labels=dataset.labels)
    assert mask.ignore == ignore
    assert sorted(set(mask.array.ravel().tolist())) == sorted(values)


@pytest.mark.parametrize(
    "said", ["ignore: 0\n", "ignore: yes\n", "ignore: 1.5\n", "ignore: 1\n1: cell\n", "ignore: 70000\n"]
)
def test_what_is_no_id_is_refused_in_words(pairs: Callable[..., Path], said: str) -> None:
    with pytest.raises((InputError, PlanError), match="ignored"):
        open_dataset(pairs(0, 1, said=said))


def test_nnunets_ignore_label_is_one(writer: Writer) -> None:
    writer.image("imagesTr/x_0000.nii.gz")
    writer.mask("labelsTr/x.nii.gz", values=(1, 2))
    writer.json({"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1, "ignore": 2}, "file_ending": "."})
    dataset = open_dataset(writer.root)
    assert (dataset.labels.names, dataset.ignore) == (("a",), 2)


@pytest.mark.parametrize(("document", "beside"), [(2, ""), (3, "ignore: 1\n")])
def test_an_id_said_to_be_ignored_and_a_label_is_refused(writer: Writer, document: int, beside: str) -> None:
    writer.image("imagesTr/x_0000.nii.gz")
    writer.mask("labelsTr/x.nii.gz", values=(1, 2))
    writer.json({"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1, "b": 2, "ignore": document}})
    if beside:
        (writer.root / "labels.yaml").write_text(beside)
    with pytest.raises(InputError, match=r"the id \d is to be ignored and is a label; expected one of the two"):
        open_dataset(writer.root)
    (writer.root / "labels.yaml").write_text("ignore: none\n")
    assert (open_dataset(writer.root).labels.names, open_dataset(writer.root).ignore) == (("a", "b"), None)


def test_check_tells_the_share(pairs: Callable[..., Path]) -> None:
    (found,) = (f for f in check_dataset(pairs(0, 1, 1, 255, palette=VOC)).findings if f.code == "ignored-voxels")
    assert (found.severity, "in 25 % of" in found.message) == ("note", True)


def test_a_mask_that_is_ignored_as_a_whole_is_said(pairs: Callable[..., Path]) -> None:
    root = pairs(255, 255, palette=VOC)
    assert "only-ignored" in {f.code for f in check_dataset(root).findings}
    with pytest.raises(InputError, match=r"no mask holds a label but 255, which is ignored.*ignore: none"):
        with_labels(open_dataset(root))


def test_the_fingerprint_measures_only_what_was_decided(pairs: Callable[..., Path]) -> None:
    """Ignored pixels are the only bright ones: they must not count as foreground."""
    dataset = open_dataset(pairs(0, 1, 1, 255, palette=VOC), channels=["EM"])
    measured = fingerprint(dataset)
    assert measured.ignore_label == 255
    assert measured.channels[0].maximum < 200
    assert measured.cases[0].label_voxels == {1: 12}


def test_an_ignored_value_is_no_label(pairs: Callable[..., Path]) -> None:
    case = open_dataset(pairs(0, 1, 255)).cases[0]
    with pytest.raises(InputError, match="holds the value 255"):
        read_case(case, labels=LabelSet.from_names({1: "cell"}))
    _, mask = read_case(replace(case, ignore=255), labels=LabelSet.from_names({1: "cell"}))
    assert mask.voxel_counts() == {1: 6}
    with pytest.raises(InputError, match="to be ignored and to be learned"):
        Segmentation(mask.array, mask.geometry, LabelSet.from_names({1: "a", 255: "b"}), ignore=255)

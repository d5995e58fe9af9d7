"""The layout of Pascal VOC: palettes are indices, lists are the split, names and colours follow the ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from medseg.datasets import check_dataset, open_dataset, read_case, with_labels
from medseg.errors import InputError
from medseg.labels import LabelSet, voc_color

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VOC = [colour for i in range(256) for colour in voc_color(i)]


def add(root: Path, name: str, *values: int, palette: list[int] | None = None, masked: bool = True) -> None:
    """Write a photograph, and a mask with a row of each of `values` below a row of background."""
    mask = np.zeros((len(values) + 1, 5), np.uint8)
    mask[1:] = np.array(values, np.uint8)[:, None]
    for folder in ("JPEGImages", "SegmentationClass"):
        (root / folder).mkdir(exist_ok=True)
    noise = np.random.default_rng(len(name) + sum(map(ord, name))).integers(0, 255, (*mask.shape, 3), np.uint8)
    Image.fromarray(noise).save(root / "JPEGImages" / f"{name}.jpg")
    if masked:
        picture = Image.fromarray(mask)
        if palette is not None:
            picture.putpalette(palette)
        picture.save(root / "SegmentationClass" / f"{name}.png")


def lists(root: Path, **names: str) -> None:
    place = root / "ImageSets" / "Segmentation"
    place.mkdir(parents=True)
    for name, lines in names.items():
        (place / f"{name}.txt").write_text("\n".join(lines.split()) + "\n")


def test_vocs_colours_are_those_of_its_development_kit() -> None:
    """Known from the kit's documentation: aeroplane, bicycle, person, tv monitor, and the rim."""
    known = {1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {i: voc_color(i) for i in known} == known
    assert len({voc_color(i) for i in range(256)}) == 256


def test_real_voc_data_has_names_colours_and_an_id_to_be_ignored(test_data: Path) -> None:
    dataset = open_dataset(test_data / "images2d" / "pascal_voc_style")
    assert [case.id for case in dataset.cases] == ["2011_000003", "2011_000006", "2011_000025"]
    assert (len(dataset.labels), dataset.labels[15].name, dataset.ignore) == (20, "person", 255)
    assert {label.id: label.color for label in dataset.labels} == {i: voc_color(i) for i in range(1, 21)}
    for case in dataset.cases:
        image, mask = read_case(case, labels=dataset.labels)
        assert image.channels == ("red", "green", "blue")
        with Image.open(str(case.reference)) as picture:  # indices, whatever the palette shows
            np.testing.assert_array_equal(mask.array[0], np.array(picture))
        assert mask.ignore == 255


def test_lists_are_the_split_and_say_what_belongs_to_it(tmp_path: Path) -> None:
    for name in "abcd":
        add(tmp_path, name, 1, palette=VOC)
    add(tmp_path, "e", masked=False)
    lists(tmp_path, train="a b", val="c")
    dataset = open_dataset(tmp_path)
    training, validation = dataset.split(0)
    assert ([c.id for c in training], [c.id for c in validation]) == (["a", "b"], ["c"])
    assert {f.code for f in check_dataset(tmp_path).findings} == {"unlisted-file", "unnamed-labels"}


def test_without_lists_every_mask_counts_and_images_without_are_left_out(
    tmp_path: Path, codes: Callable[[Path], dict[str, list[str]]]
) -> None:
    for name in "ab":
        add(tmp_path, name, 3, 255, palette=VOC)
    for name in "cde":
        add(tmp_path, name, masked=False)
    dataset = open_dataset(tmp_path)
    assert ([case.id for case in dataset.cases], dataset.splits) == (["a", "b"], ())
    assert set(codes(tmp_path)) == {"unmasked-image", "unnamed-labels", "ignored-voxels"}
    found = with_labels(dataset).labels
    assert [(label.id, label.name, label.color) for label in found] == [(3, "label_3", voc_color(3))]


def test_what_is_listed_has_to_be_there(tmp_path: Path, codes: Callable[[Path], dict[str, list[str]]]) -> None:
    add(tmp_path, "a", 1, palette=VOC)
    lists(tmp_path, train="a lost")
    assert len(codes(tmp_path)["missing-file"]) == 2
    with pytest.raises(InputError, match="lost is listed in ImageSets but has no image"):
        open_dataset(tmp_path)


def test_a_mask_without_image_is_an_error(tmp_path: Path) -> None:
    add(tmp_path, "a", 1, palette=VOC)
    (tmp_path / "JPEGImages" / "a.jpg").rename(tmp_path / "JPEGImages" / "b.jpg")
    with pytest.raises(InputError, match=r"SegmentationClass/a\.png has no image"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("first", ["background", "_background_", "__ignore__\n_background_", "Background"])
def test_names_are_one_a_line(tmp_path: Path, first: str) -> None:
    add(tmp_path, "a", 1, palette=VOC)
    (tmp_path / "class_names.txt").write_text(f"{first}\ncat\ndog\n")
    assert {label.id: label.name for label in open_dataset(tmp_path).labels} == {1: "cat", 2: "dog"}


@pytest.mark.parametrize("text", ["cat\ndog\n", "", "background\n", "\xff"])
def test_names_that_would_be_off_by_one_are_refused(tmp_path: Path, text: str) -> None:
    add(tmp_path, "a", 1, palette=VOC)
    (tmp_path / "class_names.txt").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"class_names\.txt"):
        open_dataset(tmp_path)


def test_labels_beside_it_count_before_names(tmp_path: Path) -> None:
    add(tmp_path, "a", 1, 7, palette=VOC)
    (tmp_path / "class_names.txt").write_text("background\ncat\n")
    (tmp_path / "labels.yaml").write_text("1: organ\n7: vessel\n")
    labels = open_dataset(tmp_path).labels
    assert labels.names == ("organ", "vessel")
    assert labels[7].color == voc_color(7)
    (tmp_path / "labels.yaml").write_text("- {id: 1, name: organ, color: [9, 8, 7]}\n")
    assert open_dataset(tmp_path).labels[1].color == (9, 8, 7)


def test_subsets_of_a_folder_are_named_where_it_is_no_data_set_itself(test_data: Path) -> None:
    camvid = test_data / "images2d" / "road_scenes_camvid"
    with pytest.raises(InputError, match="folders inside: test, train"):
        open_dataset(camvid)
    dataset = with_labels(open_dataset(camvid / "train"))
    assert (len(dataset.cases), dataset.ignore) == (5, None)
    assert dataset.labels.ids == (1, 2, 3, 4, 5, 6, 8, 9, 10, 11)
    assert LabelSet.from_names({i: f"label_{i}" for i in dataset.labels.ids}) == dataset.labels

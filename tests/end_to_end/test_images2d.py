"""2-D data through the command line: PNG pairs become a model, which segments PNG and X-ray, and is scored."""

from __future__ import annotations

import csv
import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from medseg.cli.app import main
from medseg.io import read_segmentation
from medseg.model import load_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Command = Callable[..., tuple[int, str, str]]

TINY = ("train.epochs=1", "train.steps_per_epoch=2", "train.batch_size=1", "network.width=4", "network.depth=3")


@pytest.fixture
def medseg(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command; exit code, stdout, stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def copied(source: Path, names: list[str], target: Path, *, side: int = 10_000) -> Path:
    """Copy pairs, no more of each than its upper left part."""
    for folder in ("images", "masks"):
        (target / folder).mkdir(parents=True)
        for name in names:
            with Image.open(source / folder / f"{name}.png") as picture:
                part = picture.crop((0, 0, min(side, picture.width), min(side, picture.height)))
            part.save(target / folder / f"{name}.png")
    return target


def pixels(path: Path) -> NDArray[Any]:
    with Image.open(path) as picture:
        return np.array(picture)


def settings(*more: str) -> list[str]:
    return [word for setting in (*TINY, *more) for word in ("--set", setting)]


def trained_and_segmented(
    medseg: Command, data: Path, place: Path, *, recipe: str, patch: str, more: tuple[str, ...] = ()
) -> Path:
    """Train on a data set and segment its own images; the output folder, with `run` beside it."""
    words = settings(f"train.patch_size={patch}", *more)
    code, _, errors = medseg("train", data, "-o", place / "run", "-r", recipe, "--device", "cpu", *words)
    assert code == 0, errors
    out = place / "out"
    code, _, errors = medseg(
        "segment", place / "run" / "model", data / "images", "-o", out, "--format", "nifti,png", "--device", "cpu"
    )
    assert code == 0, errors
    return out


def test_grey_pairs_become_a_model_and_masks_in_colour(test_data: Path, tmp_path: Path, medseg: Command) -> None:
    data = copied(test_data / "images2d" / "em_membrane", ["00", "01"], tmp_path / "data", side=150)
    out = trained_and_segmented(medseg, data, tmp_path, recipe="unet2d", patch="[1,128,128]", more=("channels=[EM]",))
    plan = load_model(tmp_path / "run" / "model").plan
    assert (plan.preprocess.spacing_mm, plan.slice_axis, plan.labels.ids) == ((1.0, 1.0, 1.0), 0, (255,))
    assert plan.ignore_label is None
    cases = {case["id"]: case for case in json.loads((out / "manifest.json").read_text())["cases"]}
    assert set(cases) == {"00", "01"}
    for case in cases.values():
        assert set(case["outputs"]) == set(case["checks"]) == {"nifti", "png", "png-mask"}
        assert case["checks"]["png-mask"] == {"passed": True, "reader": "the bytes of the file", "voxels_differing": 0}
    for suffix in ("nii.gz", "png"):  # either output alone is a folder of predictions, and both score the same
        alone = tmp_path / suffix
        for name in cases:
            (alone / name).mkdir(parents=True)
            shutil.copy(out / name / f"segmentation.{suffix}", alone / name)
        code, _, errors = medseg("evaluate", alone, data / "masks", "-o", tmp_path / f"scores-{suffix}")
        assert code == 0, errors
    scores = [json.loads((tmp_path / f"scores-{s}" / "metrics.json").read_text()) for s in ("nii.gz", "png")]
    assert scores[0]["cases"] == scores[1]["cases"]
    agreed = np.mean(
        [pixels(out / name / "segmentation.png") == pixels(data / "masks" / f"{name}.png") for name in cases]
    )
    assert scores[1]["summary"]["overall"]["pixel_accuracy"] == pytest.approx(agreed)


def test_grey_and_coloured_pictures_of_many_sizes_are_one_data_set(
    test_data: Path, tmp_path: Path, medseg: Command
) -> None:
    source = test_data / "images2d" / "nuclei"
    rows = list(csv.DictReader((source / "cases.csv").read_text(encoding="utf-8").splitlines()))
    small = sorted(rows, key=lambda row: int(row["width"]) * int(row["height"]))
    names = [next(r for r in small if r["stain"] == "grey")["id"], next(r for r in small if r["stain"] != "grey")["id"]]
    names += [next(r["id"] for r in small if (r["width"], r["height"]) == ("320", "256"))]
    data = copied(source, names, tmp_path / "data")
    shutil.copy(source / "cases.csv", data)
    (data / "instances").mkdir()
    shutil.copy(source / "instances" / f"{names[0]}.png", data / "instances")
    grey = pixels(data / "images" / f"{names[0]}.png")[..., 0]  # the same picture, now with one channel
    Image.fromarray(grey).save(data / "images" / f"{names[0]}.png")
    code, text, errors = medseg("check", data, "--json")
    assert code == 0, errors
    assert {f["code"] for f in json.loads(text)["findings"]} == {"mixed-colour", "unnamed-labels"}
    out = trained_and_segmented(medseg, data, tmp_path, recipe="unet2d", patch="[1,320,320]", more=("train.folds=2",))
    plan = load_model(tmp_path / "run" / "model").plan
    assert plan.channels == ("red", "green", "blue")
    assert plan.train.patch_size == (1, 320, 320)
    cases = json.loads((out / "manifest.json").read_text())["cases"]
    assert {case["id"]: case["status"] for case in cases} == dict.fromkeys(names, "done")
    code, _, errors = medseg("evaluate", out, data / "masks", "-o", tmp_path / "scores")
    assert code == 0, errors
    for name in names:
        assert pixels(out / name / "segmentation.png").shape == pixels(data / "masks" / f"{name}.png").shape


def test_an_x_ray_in_dicom_is_segmented_by_a_model_of_x_rays(tmp_path: Path, medseg: Command) -> None:
    """DX files, which have millimetres, with masks drawn as PNG, which have none, teach a model of two dimensions."""
    data = tmp_path / "data"
    (data / "masks").mkdir(parents=True)
    for seed in range(2):
        image, mask = discs(seed)
        write_x_ray(image, data / "images" / f"x{seed}.dcm", spacing_mm=(0.3, 0.2))
        Image.fromarray(mask).save(data / "masks" / f"x{seed}.png")
    code, text, errors = medseg("check", data, "--json")
    assert code == 0, errors
    assert {f["code"] for f in json.loads(text)["findings"]} == {"unnamed-labels"}
    words = settings("train.patch_size=[1,64,64]")
    code, _, errors = medseg("train", data, "-o", tmp_path / "run", "-r", "unet2d", "--device", "cpu", *words)
    assert code == 0, errors
    plan = load_model(tmp_path / "run" / "model").plan
    assert (plan.channels, plan.slice_axis) == (("DX",), 0)
    assert plan.preprocess.spacing_mm[1:] == pytest.approx((0.3, 0.2))
    image, truth = discs(7)
    write_x_ray(image, tmp_path / "in" / "chest.dcm", spacing_mm=(0.3, 0.2))
    out = tmp_path / "out"
    formats = "nifti,dicom-seg,png,measurements"
    code, _, errors = medseg(
        "segment", tmp_path / "run" / "model", tmp_path / "in", "-o", out, "--format", formats, "--device", "cpu"
    )
    assert code == 0, errors
    (case,) = json.loads((out / "manifest.json").read_text())["cases"]
    assert case["status"] == "done"
    assert {"nifti", "png", "png-mask", "measurements"} <= set(case["outputs"])
    mask = read_segmentation(out / case["outputs"]["nifti"])
    assert mask.array.shape == (1, 70, 90)
    assert mask.geometry.spacing_mm[1:] == pytest.approx((0.3, 0.2))
    np.testing.assert_array_equal(pixels(out / case["outputs"]["png-mask"]), mask.array[0])
    (tmp_path / "truth").mkdir()
    Image.fromarray(truth).save(tmp_path / "truth" / f"{case['id']}.png")
    code, _, errors = medseg("evaluate", out, tmp_path / "truth", "-o", tmp_path / "scores")
    assert code == 0, errors
    overall = json.loads((tmp_path / "scores" / "metrics.json").read_text())["summary"]["overall"]
    assert overall["pixel_accuracy"] == pytest.approx(np.mean(mask.array[0] == truth))


def discs(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[:70, :90]
    inside = (y - rng.uniform(25, 45)) ** 2 + (x - rng.uniform(30, 60)) ** 2 < 15**2
    return (60 + 120 * inside + rng.normal(0, 8, inside.shape)).astype(np.uint8), inside.astype(np.uint8)


def write_x_ray(pixels_yx: NDArray[np.uint8], path: Path, *, spacing_mm: tuple[float, float]) -> None:
    """Write a Digital X-Ray Image for presentation, with what a reader needs of PS3.3 A.26."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        DigitalXRayImageStorageForPresentation,
        generate_uid(),
    )
    image = Dataset()
    image.file_meta, image.Modality = meta, "DX"
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.ImageType = ["ORIGINAL", "PRIMARY"]
    image.Rows, image.Columns = pixels_yx.shape
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 0
    image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
    image.ImagerPixelSpacing = list(spacing_mm)
    image.PixelData = pixels_yx.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)


def test_voc_with_undecided_rims_is_learned_and_scored(test_data: Path, tmp_path: Path, medseg: Command) -> None:
    """Palette masks, the recipe for them, and scores that leave the rims out."""
    source, data = test_data / "images2d" / "pascal_voc_style", tmp_path / "data"
    for folder in ("JPEGImages", "SegmentationClass"):
        (data / folder).mkdir(parents=True)
        for path in sorted((source / folder).iterdir()):
            with Image.open(path) as picture:
                picture.crop((300, 200, 430, 310)).save(data / folder / path.with_suffix(".png").name)
    shutil.copy(source / "class_names.txt", data)
    words = settings("train.patch_size=[1,64,96]", "train.folds=3")
    code, _, errors = medseg("train", data, "-o", tmp_path / "run", "-r", "voc", "--device", "cpu", *words)
    assert code == 0, errors
    plan = load_model(tmp_path / "run" / "model").plan
    assert (plan.ignore_label, plan.labels[15].color) == (255, (192, 128, 128))
    validation = json.loads((tmp_path / "run" / "fold_0" / "validation" / "metrics.json").read_text())
    out, place = tmp_path / "out", data / "JPEGImages"
    words = ["--format", "png-mask", "--device", "cpu"]
    code, _, errors = medseg("segment", tmp_path / "run" / "model", place, "-o", out, *words)
    assert code == 0, errors
    code, _, errors = medseg("evaluate", out, data / "SegmentationClass", "-o", tmp_path / "scores")
    assert code == 0, errors
    scores = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    hits, decided = 0, 0
    for path in (data / "SegmentationClass").iterdir():
        true = pixels(path)
        hits += int((pixels(out / path.stem / "segmentation.png") == true)[true != 255].sum())
        decided += int((true != 255).sum())
    assert decided < 3 * 130 * 110
    assert scores["summary"]["overall"]["pixel_accuracy"] == pytest.approx(hits / decided)
    (held_out,) = [row for row in validation["cases"] if row["label"] == "all"]
    same = next(row for row in scores["cases"] if row["label"] == "all" and row["id"] == held_out["id"])
    assert held_out["pixel_accuracy"] == pytest.approx(same["pixel_accuracy"])

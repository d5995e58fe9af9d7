from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

from medseg.case import Case
from medseg.errors import InputError, OutputError
from medseg.labels import LabelSet
from medseg.plan import Plan
from medseg.training import store as store_module
from medseg.training.store import SAMPLES, prepare_dataset

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.progress import Step
    from medseg.volume import Volume

LABELS = LabelSet.from_names({2: "a", 7: "b", 300: "c"})


def plan_of(**preprocess: object) -> Plan:
    return Plan.from_document(
        {
            "channels": ["MR"],
            "labels": LABELS.to_json(),
            "preprocess": {"spacing_mm": [1, 1, 1], "normalisation": [{"kind": "zscore"}], **preprocess},
            "network": {
                "dimensions": 3,
                "features": [4, 8],
                "strides": [[1, 1, 1], [2, 2, 2]],
                "kernels": [[3, 3, 3], [3, 3, 3]],
            },
            "train": {"patch_size": [8, 8, 8], "batch_size": 2},
        }
    )


def make_case(root: Path, name: str = "a", seed: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    image = rng.normal(100, 10, (20, 18, 16)).astype(np.float32)
    mask = np.zeros(image.shape, np.uint16)
    mask[:, :10] = 2
    mask[3, 12, 5] = 300
    for kind, array in (("i", image), ("m", mask)):
        nib.save(nib.Nifti1Image(array, np.eye(4)), root / f"{name}_{kind}.nii")
    return Case(name, (root / f"{name}_i.nii",), root / f"{name}_m.nii")


def test_a_case_is_stored_as_the_network_sees_it(tmp_path: Path) -> None:
    found = prepare_dataset([make_case(tmp_path)], plan_of(), tmp_path / "store").cases[0]
    assert found.id == "a"
    assert found.shape == (16, 18, 20)
    image, label = found.image_czyx, found.label_zyx
    assert image.dtype == np.float32
    assert image.shape == (1, 16, 18, 20)
    assert float(image.mean()) == pytest.approx(0, abs=1e-4)
    assert label.dtype == np.uint8
    assert label.shape == (16, 18, 20)
    assert isinstance(image, np.memmap)
    assert not image.flags.writeable


def test_classes_follow_the_order_of_the_labels(tmp_path: Path) -> None:
    found = prepare_dataset([make_case(tmp_path)], plan_of(), tmp_path / "store").cases[0]
    assert found.classes == (1, 3)
    assert np.unique(found.label_zyx).tolist() == [0, 1, 3]
    foreground = found.foreground
    assert len(foreground[1]) == SAMPLES
    assert foreground[3].shape == (1, 3)
    for label, voxels in foreground.items():
        assert (found.label_zyx[tuple(voxels.T)] == label).all()
    assert len({tuple(v) for v in foreground[1].tolist()}) == SAMPLES


def test_a_second_run_finds_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [make_case(tmp_path, name, seed) for seed, name in enumerate("ab")]
    first = prepare_dataset(cases, plan_of(), tmp_path / "store")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("prepared again")

    monkeypatch.setattr(store_module, "_make", never)
    assert prepare_dataset(cases, plan_of(), tmp_path / "store") == first


def test_another_plan_or_content_makes_its_own_entry(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    case = make_case(tmp_path)
    places = {prepare_dataset([case], plan_of(), folder).cases[0].folder}
    places.add(prepare_dataset([case], plan_of(spacing_mm=[2, 2, 2]), folder).cases[0].folder)
    places.add(prepare_dataset([case], plan_of(normalisation=[{"kind": "rescale"}]), folder).cases[0].folder)
    make_case(tmp_path, seed=5)
    places.add(prepare_dataset([case], plan_of(), folder).cases[0].folder)
    assert len(places) == len(list(folder.iterdir())) == 4


@pytest.mark.parametrize("name", ["image.npy", "label.npy", "foreground.npy", "entry.json"])
@pytest.mark.parametrize("damage", ["shorten", "flip", "remove"])
def test_a_damaged_entry_is_made_again(tmp_path: Path, name: str, damage: str) -> None:
    case = make_case(tmp_path)
    before = prepare_dataset([case], plan_of(), tmp_path / "store").cases[0]
    expected = np.array(before.image_czyx)
    path = before.folder / name
    content = path.read_bytes()
    if damage == "remove":
        path.unlink()
    elif damage == "shorten":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(content[:-5] + bytes([content[-5] ^ 255]) + content[-4:])
    after = prepare_dataset([case], plan_of(), tmp_path / "store").cases[0]
    np.testing.assert_array_equal(after.image_czyx, expected)
    assert after == before


def test_an_entry_another_process_made_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case, folder = make_case(tmp_path), tmp_path / "store"
    make = store_module._make
    others = []

    def slow(*args: Any) -> None:
        make(*args)
        if not others:
            others.append(None)
            others[0] = prepare_dataset([case], plan_of(), folder).cases[0].folder.stat().st_ino

    monkeypatch.setattr(store_module, "_make", slow)
    found = prepare_dataset([case], plan_of(), folder).cases[0]
    assert found.folder.stat().st_ino == others[0]
    assert [path.name for path in folder.iterdir()] == [found.folder.name]


def test_a_full_disk_is_said_in_words_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OutputError, match="disk is full"):
        prepare_dataset([make_case(tmp_path)], plan_of(), tmp_path / "store")
    assert list((tmp_path / "store").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        prepare_dataset([make_case(tmp_path)], plan_of(), tmp_path / "file" / "store")


def test_a_case_that_does_not_fit_is_named(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    mask = np.full((20, 18, 16), 9, np.uint8)
    nib.save(nib.Nifti1Image(mask, np.eye(4)), case.reference)
    with pytest.raises(InputError, match=r"^a, .*value 9"):
        prepare_dataset([case], plan_of(), tmp_path / "store")
    with pytest.raises(InputError, match="a: the case has no mask"):
        prepare_dataset([Case("a", case.images)], plan_of(), tmp_path / "store")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_voxel_that_is_no_number_is_found_before_training_and_its_case_named(tmp_path: Path, value: float) -> None:
    cases = [make_case(tmp_path, name, seed) for seed, name in enumerate("ab")]
    image = np.asarray(nib.load(cases[1].images[0]).dataobj).copy()
    image[3, 4, 5] = value
    nib.save(nib.Nifti1Image(image, np.eye(4)), cases[1].images[0])
    with pytest.raises(InputError, match=r"^b: .*not finite numbers.*take the case out"):
        prepare_dataset(cases, plan_of(), tmp_path / "store")


def test_a_value_that_overflows_in_normalisation_is_found_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overflowing(image: Volume, plan: Plan) -> Volume:
        made = prepare(image, plan)
        made.array[0, 0, 0, 0] = np.inf
        return made

    prepare = store_module.prepare
    monkeypatch.setattr(store_module, "prepare", overflowing)
    with pytest.raises(InputError, match=r"^a: the normalised image holds voxels that are not finite"):
        prepare_dataset([make_case(tmp_path)], plan_of(), tmp_path / "store")


def test_stopped_while_preparing_what_was_finished_is_kept_whole(tmp_path: Path) -> None:
    cases = [make_case(tmp_path, name, seed) for seed, name in enumerate("abc")]

    def stop(_: Step, /) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_dataset(cases, plan_of(), tmp_path / "store", progress=stop)
    left = [path.name for path in (tmp_path / "store").iterdir()]
    assert left
    assert not [name for name in left if name.startswith(".making-")]
    assert len(prepare_dataset(cases, plan_of(), tmp_path / "store")) == 3

from __future__ import annotations

import json
import shutil
import zipfile
from typing import TYPE_CHECKING

import pytest

from medseg.errors import ModelError
from medseg.nnunet import find_folder, unpacked
from tests.nnunet.folders import TRAINER, dataset, plans

if TYPE_CHECKING:
    from pathlib import Path


def trained(root: Path, name: str = "3d_fullres", folds: tuple[str, ...] = ("0",), kind: str = "final") -> Path:
    """A trained folder whose checkpoints are empty."""
    folder = root / "Dataset007_Test" / f"{TRAINER}{name}"
    for fold in folds:
        (folder / f"fold_{fold}").mkdir(parents=True, exist_ok=True)
        (folder / f"fold_{fold}" / f"checkpoint_{kind}.pth").touch()
    (folder / "plans.json").write_text(json.dumps(plans({})))
    (folder / "dataset.json").write_text(json.dumps(dataset()))
    return folder


@pytest.mark.parametrize("up", [0, 1, 2])
def test_a_folder_is_found_from_itself_its_data_set_and_the_results(up: int, tmp_path: Path) -> None:
    folder = trained(tmp_path)
    assert find_folder([folder, folder.parent, tmp_path][up]).path == folder


def test_of_several_configurations_one_must_be_named(tmp_path: Path) -> None:
    trained(tmp_path, "2d")
    folder = trained(tmp_path, "3d_fullres")
    with pytest.raises(ModelError, match=r"holds 2 trained models.*__2d, .*__3d_fullres.*--configuration"):
        find_folder(tmp_path)
    assert find_folder(tmp_path, configuration="3d_fullres").path == folder
    with pytest.raises(ModelError, match="no trained models of configuration '3d_lowres'"):
        find_folder(tmp_path, configuration="3d_lowres")


def test_all_numbered_folds_are_taken_unless_some_are_named(tmp_path: Path) -> None:
    folder = trained(tmp_path, folds=("0", "1", "all", "10"))
    assert list(find_folder(folder).members) == [0, 1, 10]
    assert list(find_folder(folder, folds=("1",)).members) == [1]
    assert find_folder(folder, folds=("all",)).members[0].parent.name == "fold_all"
    with pytest.raises(ModelError, match="fold_all was asked for beside others"):
        find_folder(folder, folds=("all", "0"))
    with pytest.raises(
        ModelError, match=r"fold_3 holds no checkpoint_final.pth; expected folds with it: 0, 1, 10, all"
    ):
        find_folder(folder, folds=("3",))


def test_a_lone_fold_of_all_cases_is_taken(tmp_path: Path) -> None:
    assert list(find_folder(trained(tmp_path, folds=("all",))).checkpoints) == ["all"]


def test_the_other_checkpoint_is_named_where_it_is_there(tmp_path: Path) -> None:
    folder = trained(tmp_path, kind="best")
    with pytest.raises(ModelError, match="give --checkpoint best"):
        find_folder(folder)
    assert find_folder(folder, checkpoint="best").members[0].name == "checkpoint_best.pth"


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        find_folder(tmp_path / "none")
    with pytest.raises(ModelError, match=r"no plans.json"):
        find_folder(tmp_path)
    folder = trained(tmp_path)
    (folder / "dataset.json").unlink()
    with pytest.raises(ModelError, match=r"no dataset.json"):
        find_folder(folder)
    shutil.rmtree(folder / "fold_0")
    (folder / "dataset.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no fold holds a checkpoint_final.pth"):
        find_folder(folder)


def test_an_exported_zip_is_unpacked_without_what_is_not_asked_for(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*.*"):
            archive.write(file, file.relative_to(tmp_path))
        archive.writestr("../outside/plans.json", "{}")
        archive.writestr("Dataset007_Test/x/../../../up/plans.json", "{}")
        archive.writestr("Dataset007_Test/more.py", "raise SystemExit")
    with unpacked(path) as scratch:
        assert find_folder(scratch).path.name == folder.name
        assert sorted(file.name for file in scratch.rglob("*.*")) == [
            "checkpoint_final.pth",
            "dataset.json",
            "plans.json",
        ]
    assert not scratch.exists()


def test_a_zip_of_something_else_is_refused_by_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "export.zip"
    path.write_bytes(b"PK no")
    with pytest.raises(ModelError, match=r"export.zip: the file is no zip"), unpacked(path):
        pass
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "")
    with pytest.raises(ModelError, match=r"export.zip: the zip holds no plans.json"), unpacked(path):
        pass
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a__b__2d/plans.json", "{}")
    with pytest.raises(ModelError, match=r"export.zip/a__b__2d: there is no dataset.json"), unpacked(path) as folder:
        find_folder(folder)

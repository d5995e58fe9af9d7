from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
import torch

from medseg.cli import main
from medseg.errors import ModelError, PlanError
from medseg.model import load_model
from medseg.workflows.nnunet import ImportRequest, import_model
from tests.nnunet.folders import checkpoint, configuration, dataset, network, write_folder

if TYPE_CHECKING:
    from pathlib import Path


def folder_in(root: Path, *, folds: int = 1, **changed: Any) -> Path:
    own = configuration()
    saved = {str(s): checkpoint(network(own, seed=s).state_dict(), **changed) for s in range(folds)}
    return write_folder(root, own, saved, about={}, data=dataset())


def test_the_card_tells_where_the_model_is_from(tmp_path: Path) -> None:
    folder = folder_in(tmp_path, folds=2)
    import_model(folder.parent, tmp_path / "model", ImportRequest())
    model = load_model(tmp_path / "model")
    card = model.card
    assert card.name == "Dataset007_Test 3d_fullres"
    assert (card.data.name, card.data.cases, card.modalities, card.metrics) == ("Dataset007_Test", 5, ("MRI",), {})
    assert card.imported is not None
    assert (card.imported.program, card.imported.trainer) == ("nnU-Net", "nnUNetTrainer")
    assert list(card.imported.checkpoints) == ["0", "1"] == [str(fold) for fold in model.weights]
    assert "nnU-Net" in card.limits
    assert "unknown" in card.licence


def test_the_command_makes_a_model_of_a_zip_and_prints_one_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_in(tmp_path, inference_allowed_mirroring_axes=(1,))
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*.*"):
            archive.write(file, file.relative_to(tmp_path))
    words = ["import", str(path), "-o", str(tmp_path / "model"), "--name", "Test", "--folds", "0", "--json"]
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["name"], document["folds"], document["mirror_axes"]) == ("Test", [0], ["Y"])
    assert document["sha256"] == load_model(tmp_path / "model").sha256


def test_what_cannot_be_imported_ends_in_a_sentence_and_no_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", str(tmp_path / "none"), "-o", str(tmp_path / "model")]) == 1
    assert "no such file or folder" in capsys.readouterr().err
    folder = folder_in(tmp_path)
    torch.save(checkpoint({"a": torch.ones(1)}), folder / "fold_0" / "checkpoint_final.pth")
    assert main(["import", str(folder), "-o", str(tmp_path / "model")]) == 1
    assert "belong to different networks" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_folds_of_different_configurations_are_refused(tmp_path: Path) -> None:
    folder = folder_in(tmp_path, folds=2)
    other = checkpoint(network(configuration()).state_dict(), init_args={"configuration": "3d_lowres"})
    torch.save(other, folder / "fold_1" / "checkpoint_final.pth")
    with pytest.raises(ModelError, match="fold 1 is of configuration '3d_lowres'"):
        import_model(folder, tmp_path / "model", ImportRequest())
    with pytest.raises(ModelError, match=r"of configuration '3d_fullres'; expected '2d'"):
        import_model(folder, tmp_path / "model", ImportRequest(configuration="2d", folds=("0",)))


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    wide = network(configuration(), channels=2).state_dict()
    torch.save(checkpoint(wide), folder / "fold_0" / "checkpoint_final.pth")
    with pytest.raises(ModelError, match=r"hold the shape \(4, 2, 1, 3, 3\)"):
        import_model(folder, tmp_path / "model", ImportRequest())


@pytest.mark.parametrize("asked", [{"checkpoint": "latest"}, {"folds": ()}, {"folds": ("x",)}])
def test_requests_no_folder_could_meet_are_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(PlanError):
        ImportRequest(**asked)

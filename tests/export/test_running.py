"""An exported folder segments as its model does, without PyTorch's network; and which backend is taken."""

from __future__ import annotations

import hashlib
import shutil
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from medseg.batch import BatchOptions, run_batch
from medseg.documents import format_yaml, read_yaml
from medseg.errors import MissingExtraError, ModelError
from medseg.geometry import Geometry
from medseg.inference import NumericPath, Segmenter, hardware
from medseg.inference import backends as backends_module
from medseg.inference.exported import FORMATS
from medseg.io import write_volume
from medseg.model import save_model
from medseg.volume import Volume
from tests.export.test_export import _edit
from tests.test_model import state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medseg.model import Model

    Made = Callable[[str], Path]


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own: OpenVINO's compiled models go there."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setattr(backends_module.Path, "home", lambda: folder)
    return folder


@pytest.fixture
def scan() -> Volume:
    """Grey values in steps, on a grid that is neither the plan's orientation nor its spacing."""
    affine = np.array([[0, 0, -1.2, 30.0], [0, 1.1, 0, -4], [-2.3, 0, 0, 2], [0, 0, 0, 1]])
    coarse = np.random.default_rng(0).normal(50, 120, (6, 7, 8))
    array = np.kron(coarse, np.ones((3, 3, 3))).astype(np.int16)
    return Volume(array[None], Geometry(array.shape, affine), ("CT",))


def segmenter(folder: Path, **more: object) -> Segmenter:
    return Segmenter.load(folder, **({"device": "cpu", "precision": "fp32"} | more))  # type: ignore[arg-type]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("kind", FORMATS)
def test_an_export_segments_as_its_model_does_and_builds_no_network(
    kind: str, mirrored: bool, made: Made, model: Model, scan: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(kind)
    expected = segmenter(model.folder, mirrored=mirrored).segment(scan).segmentation.array
    assert len(np.unique(expected)) > 1

    def refuse(*_: object) -> None:
        raise AssertionError("a network was built")

    monkeypatch.setattr("medseg.networks.build", refuse)
    with pytest.raises(AssertionError, match="was built"):
        segmenter(model.folder)
    found = segmenter(folder, mirrored=mirrored)
    assert found.path.backend == {"monai-bundle": "torchscript"}.get(kind, kind)
    assert found.model is not None
    assert found.model.sha256 == found.path.export
    assert (found.segment(scan).segmentation.array == expected).mean() >= 0.9999


def test_one_member_of_an_export_may_be_asked_for(made: Made, model: Model) -> None:
    windows = torch.randn(2, 1, 8, 8, 16, generator=torch.Generator().manual_seed(0))
    one = segmenter(made("torchscript"), members=(3,))._predict(windows)
    torch.testing.assert_close(one, segmenter(model.folder, members=(3,))._predict(windows), atol=1e-5, rtol=1e-5)
    with pytest.raises(ModelError, match=r"no member 1; expected one of \[0, 3\]"):
        segmenter(made("torchscript"), members=(1,))


def test_without_exports_pytorch_runs_and_the_others_say_how(model: Model) -> None:
    assert segmenter(model.folder).path == NumericPath(window_batch=16)
    for name in ("onnx", "openvino"):
        with pytest.raises(
            ModelError, match=f"no export to run by {name}.*medseg export MODEL -o MODEL/exports/{name}"
        ):
            segmenter(model.folder, backend=name)
    with pytest.raises(ModelError, match="'tensorrt' is not known; expected auto, torch, onnx or openvino"):
        segmenter(model.folder, backend="tensorrt")


def test_auto_takes_a_proven_export_and_keeps_the_models_name(own: Model, place: Callable[[str], Path]) -> None:
    place("onnx")
    found = segmenter(own.folder)
    assert found.path.backend == "onnx"
    assert found.model is not None
    assert found.model.sha256 == own.sha256
    place("openvino")
    assert segmenter(own.folder).path.backend == "openvino"
    assert segmenter(own.folder, backend="onnx").path.backend == "onnx"
    assert segmenter(own.folder, backend="torch").path.backend == "torch"


def test_auto_passes_over_what_is_not_installed_or_not_in_the_precision(
    own: Model, place: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    place("onnx")
    assert segmenter(own.folder, precision="bf16").path.backend == "torch"
    with pytest.raises(ModelError, match="ONNX Runtime has no bf16"):
        segmenter(own.folder, precision="bf16", backend="onnx")
    monkeypatch.setattr(hardware, "has_native_bf16", lambda _: True)
    assert segmenter(own.folder, precision="auto").path.backend == "torch"
    assert segmenter(own.folder, precision="auto", backend="onnx").path.precision == "fp32"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert segmenter(own.folder).path.backend == "torch"
    with pytest.raises(MissingExtraError, match=r"onnxruntime is not installed.*pip install 'medseg\[onnx\]'"):
        segmenter(own.folder, backend="onnx")


def test_a_stale_export_is_refused_and_auto_says_why_it_does_without(
    own: Model, place: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = place("onnx")
    kept = shutil.copytree(folder, own.folder.parent / "kept")
    newer = save_model(own.folder, plan=own.plan, members={0: state(own.plan, 9)}, card=own.card)
    shutil.copytree(kept, newer.folder / "exports" / "onnx")
    with pytest.raises(ModelError, match="not made from the model it lies in"):
        segmenter(newer.folder, backend="onnx")
    assert segmenter(newer.folder).path.backend == "torch"
    assert "not made from the model it lies in" in caplog.text


def test_auto_leaves_an_export_whose_record_does_not_prove_equal_labels(
    own: Model, place: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = place("onnx")
    _edit(folder, "parity.json", lambda text: text.replace('"share_equal": 1.0', '"share_equal": 0.9998'))
    assert segmenter(own.folder).path.backend == "torch"
    assert "not label-equal" in caplog.text
    assert segmenter(own.folder, backend="onnx").path.backend == "onnx"


def test_an_exported_folder_runs_by_its_own_backend_only(made: Made) -> None:
    with pytest.raises(ModelError, match="was exported for onnx, and openvino cannot run it"):
        segmenter(made("onnx"), backend="openvino")
    assert segmenter(made("onnx"), backend="onnx").path.backend == "onnx"


def test_gpus_are_refused_where_the_library_has_none(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    made("openvino"), made("onnx")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ModelError, match="OpenVINO does not compute on cuda"):
        segmenter(made("openvino"), device="cuda")
    assert segmenter(made("openvino"), device="auto").path.device == "cpu"
    with pytest.raises(ModelError, match=r"ONNX Runtime installed here has no CUDA.*onnxruntime-gpu"):
        segmenter(made("onnx"), device="cuda")


def test_what_openvino_compiled_is_kept_in_the_users_cache_and_not_beside_the_model(made: Made, home: Path) -> None:
    before = {p.name for p in made("openvino").iterdir()}
    export = segmenter(made("openvino")).path.export
    kept = home / ".cache" / "medseg" / "openvino" / export[:32]
    assert list(kept.rglob("*.blob"))
    assert {p.name for p in made("openvino").iterdir()} == before


def test_a_home_that_cannot_be_written_only_costs_the_cache(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(backends_module.Path, "home", homeless)
    assert segmenter(made("openvino")).path.backend == "openvino"


@pytest.mark.parametrize(
    ("kind", "file"), [("onnx", "fold_0.onnx"), ("openvino", "fold_0.xml"), ("torchscript", "fold_0.pt")]
)
def test_a_file_of_another_kind_is_refused_in_words(kind: str, file: str, made: Made, tmp_path: Path) -> None:
    folder = shutil.copytree(made(kind), tmp_path / "copy")
    (folder / file).write_text("nonsense")
    card = read_yaml(folder / "card.yaml")
    card["files"][file] = hashlib.sha256(b"nonsense").hexdigest()
    (folder / "card.yaml").write_text(format_yaml(card))
    with pytest.raises(ModelError, match=f"{file}: .* cannot read the file.*Export the model again"):
        segmenter(folder)


def test_a_resumed_run_keeps_backend_and_export(
    own: Model, place: Callable[[str], Path], scan: Volume, tmp_path: Path
) -> None:
    place("onnx")
    (tmp_path / "scans").mkdir()
    write_volume(scan, tmp_path / "scans" / "a.nii.gz")
    out = tmp_path / "out"
    paths: list[NumericPath | None] = []

    def load(path: NumericPath | None) -> Segmenter:
        paths.append(path)
        return segmenter(own.folder, path=path, backend="torch" if path else "auto")

    first = run_batch(load, [tmp_path / "scans"], out=out, options=BatchOptions())
    assert first.numeric_path["backend"] == "onnx"
    again = run_batch(load, [tmp_path / "scans"], out=out, options=BatchOptions(resume=True))
    assert paths[0] is None
    assert paths[1] is not None
    assert paths[1].backend == "onnx"
    assert again.numeric_path == first.numeric_path
    assert again.to_json()["counts"]["skipped"] == 1
    shutil.rmtree(own.folder / "exports")
    with pytest.raises(ModelError, match="an export that is not there any more"):
        run_batch(load, [tmp_path / "scans"], out=out, options=BatchOptions(resume=True))


def test_a_path_of_an_older_journal_is_pytorchs(model: Model) -> None:
    old = {"backend": "torch", "device": "cpu", "precision": "fp32", "compiled": False, "window_batch": 2}
    path = NumericPath(**old)  # type: ignore[arg-type]
    assert segmenter(model.folder, path=path).path.export == ""


def test_an_onnx_file_that_points_outside_its_folder_is_refused(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    (tmp_path / "secret.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    weight = TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "../secret.bin"), ("offset", "0"), ("length", "16")):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    ends = [helper.make_tensor_value_info(name, 1, [4]) for name in ("windows", "logits")]
    graph = helper.make_graph(
        [helper.make_node("Add", ["windows", "w"], ["logits"])], "g", ends[:1], ends[1:], [weight]
    )
    document = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "fold_0.onnx").write_bytes(document.SerializeToString())
    with pytest.raises(ModelError, match="ONNX Runtime cannot read the file"):
        backends_module.OnnxBackend(tmp_path / "model" / "fold_0.onnx", NumericPath(backend="onnx"))

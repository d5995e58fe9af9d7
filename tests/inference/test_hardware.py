from __future__ import annotations

import pytest
import torch

from medseg.errors import ModelError
from medseg.inference import NumericPath, describe_machine, hardware, resolve_device, resolve_path, resolve_precision


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == "cuda"
    assert resolve_device("cuda:1") == "cuda:1"
    with pytest.raises(ModelError, match="no CUDA device 2; expected 0 to 1"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU", "cudax", ""])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match="is not known; expected auto, cpu, cuda or cuda:N"):
        resolve_device(name)


def test_a_gpu_that_is_not_there_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match=r"no CUDA device that PyTorch can use.*--device cpu"):
        resolve_device("cuda")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({"avx2"}, "fp32"), ({"avx512_f"}, "fp32"), ({"avx512_bf16"}, "bf16"), ({"amx_tile"}, "bf16")],
)
def test_auto_precision_follows_the_cpus_instructions(
    flags: set[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset(flags))
    assert resolve_precision("auto", "cpu") == expected
    assert resolve_precision("fp32", "cpu") == "fp32"
    assert resolve_precision("bf16", "cpu") == "bf16"


def test_auto_precision_on_a_gpu_asks_for_native_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def supported(including_emulation: bool) -> bool:
        asked.append(including_emulation)
        return True

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert resolve_precision("auto", "cuda") == "bf16"
    assert asked == [False]


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ModelError, match="'fp8' is not known"):
        resolve_precision("fp8")


def test_small_windows_are_gathered_and_large_ones_are_not() -> None:
    assert resolve_path("cpu", "fp32", patch_voxels=128**3).window_batch == 1
    assert resolve_path("cpu", "fp32", patch_voxels=256 * 256).window_batch == 4
    assert resolve_path("cpu", "fp32", patch_voxels=1).window_batch == 16
    assert resolve_path("cpu", "bf16", patch_voxels=1) == NumericPath(precision="bf16", window_batch=16)


def test_a_path_survives_json() -> None:
    path = NumericPath(precision="bf16", window_batch=4)
    assert NumericPath(**path.to_json()) == path
    assert path.dtype is torch.bfloat16


def test_the_flags_of_this_cpu_are_found_with_old_and_new_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_tile": False, "l2": 7}, raising=False
    )
    assert hardware.cpu_flags() == {"avx2"}
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert hardware.cpu_flags() == {"amx_tile"}


def test_the_machine_is_described_in_words() -> None:
    described = describe_machine()
    assert all(isinstance(text, str) and text for text in described.values())
    assert described["cores"].split()[0].isdigit()
    assert "GB" in described["memory"]


def test_what_pytorch_keeps_of_a_card_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 20)
    assert hardware.free_memory_bytes("cuda") == 130

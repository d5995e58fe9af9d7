"""nnU-Net in a process of its own, in an environment of its own: its preparation, its predictor and its export.

Usage: PYTHON -m side_by_side.by_nnunet JOB.json ANSWER.json

``kind: convert`` makes a model folder of nnU-Net from our weights and answers how far one window's scores differ.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from side_by_side.measured import Clocked, StandIn, answered, spent
from side_by_side.nnunet_words import CONFIGURATION, dataset_of, plans_of, their_name

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn


def network_of(plans: PlansManager, classes: int) -> nn.Module:
    """Return nnU-Net's network."""
    said = plans.get_configuration(CONFIGURATION)
    return get_network_from_plans(
        said.network_arch_class_name,
        said.network_arch_init_kwargs,
        said.network_arch_init_kwargs_req_import,
        1,
        classes,
        deep_supervision=False,
    ).eval()


def copied(ours: dict[str, torch.Tensor], network: nn.Module) -> None:
    """Put our weights into nnU-Net's network; its biases before norms, which we have not, are zero."""
    last = len(network.decoder.seg_layers) - 1
    theirs = dict(network.named_parameters())
    with torch.no_grad():
        for name, parameter in theirs.items():
            if not name.endswith("weight"):
                parameter.zero_()
        for name, tensor in ours.items():
            theirs[their_name(name).replace(".-1.", f".{last}.")].copy_(tensor)


def convert(job: dict[str, Any]) -> dict[str, Any]:
    """Write nnU-Net's model folder, and compare scores of one window with ours."""
    folder, about = Path(job["out"]), job["about"]
    plans, dataset = plans_of(about), dataset_of(about)
    network = network_of(PlansManager(plans), about["classes"])
    copied(torch.load(job["weights"], weights_only=True), network)
    with torch.inference_mode():
        scores = network(torch.from_numpy(np.load(job["window"])))
    ours = torch.from_numpy(np.load(job["scores"]))
    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps(dataset), encoding="utf-8")
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": CONFIGURATION},
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    parameters = sum(p.numel() for p in network.parameters())
    return {"difference": float((scores - ours).abs().max()), "size": float(ours.abs().max()), "parameters": parameters}


def predictor_of(about: dict[str, Any], network: nn.Module, device: str) -> nnUNetPredictor:
    """Return nnU-Net's predictor without mirroring."""
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device(device), allow_tqdm=False)
    plans = PlansManager(plans_of(about))
    dataset = dataset_of(about)
    predictor.manual_initialization(network, plans, plans.get_configuration(CONFIGURATION), None, dataset, "", None)
    return predictor


def segmented(scan_zyx: NDArray[Any], predictor: nnUNetPredictor, native_mm: list[float]) -> NDArray[Any]:
    """Return the mask of a scan by nnU-Net's own steps."""
    said, plans = predictor.configuration_manager, predictor.plans_manager
    properties: dict[str, Any] = {"spacing": native_mm}
    preprocessor = said.preprocessor_class(verbose=False)
    data, _, properties = preprocessor.run_case_npy(
        scan_zyx[None], None, properties, plans, said, predictor.dataset_json
    )
    logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(data)).cpu()
    return convert_predicted_logits_to_segmentation_with_correct_shape(
        logits, plans, said, predictor.label_manager, properties, num_threads_torch=torch.get_num_threads()
    )


def segment(job: dict[str, Any]) -> dict[str, Any]:
    """Return what segmenting a scan took."""
    about, device = job["about"], job["device"]
    scan = np.load(Path(job["folder"]) / f"{job['scan']}.npy")
    if job["model"]:
        network = network_of(PlansManager(plans_of(about)), about["classes"])
        checkpoint = torch.load(Path(job["model"]) / "fold_0" / "checkpoint_final.pth", weights_only=True)
        network.load_state_dict(checkpoint["network_weights"])
    else:
        network = StandIn(about["classes"])
    clocked = Clocked(network, device)
    predictor = predictor_of(about, clocked, device)
    runs = []
    for _ in range(job["times"]):
        mask, told = spent(lambda: segmented(scan, predictor, about["native_mm"]), clocked, device)
        runs.append(told)
    np.save(job["mask"], mask)
    return {"runs": runs}


if __name__ == "__main__":
    answered(lambda job: convert(job) if job["kind"] == "convert" else segment(job))

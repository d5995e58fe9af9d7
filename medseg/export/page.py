"""The page that lies in an exported folder: what it is, and how to run it elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.inference.exported import Format
    from medseg.model import Card
    from medseg.plan import Plan

_LOADING: dict[Format, tuple[str, str]] = {
    "onnx": (
        'import onnxruntime\n\nnetwork = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])',
        'network.run(["logits"], {"windows": windows})[0]',
    ),
    "openvino": (
        'import openvino\n\nhint = {"INFERENCE_PRECISION_HINT": "f32"}\n'
        'network = openvino.Core().compile_model("{file}", "CPU", hint)',
        'network({"windows": windows})["logits"]',
    ),
    "torchscript": (
        'import torch\n\nnetwork = torch.jit.load("{file}").eval()',
        "network(torch.from_numpy(windows)).detach().numpy()",
    ),
}


def page(plan: Plan, card: Card, kind: Format, members: Sequence[str]) -> str:
    """Return ``README.md`` of an export to ONNX, OpenVINO or TorchScript."""
    loading, running = _LOADING[kind]
    mean = " The ensemble's members are to be averaged as logits." if len(members) > 1 else ""
    return f"""# {card.name}, exported to {kind}

Segments {", ".join(plan.labels.names)} in {", ".join(plan.channels)}. {card.intended_use}
`medseg segment` runs this folder as it runs a model. Elsewhere, in this folder:

```python
import numpy as np
{loading.replace("{file}", members[0])}
example = np.load("example.npz")
windows = example["windows"]  # float32 (N, {len(plan.channels)}, {", ".join(map(str, plan.spatial_patch))}), any N
logits = {running}
print((logits.argmax(axis=1) == example["labels"]).mean())  # 1.0: as PyTorch has it
```

* `processing.yaml`: what happens before and after the network, in words and numbers.{mean}
* `parity.json`: how far each member is from PyTorch's on the example, both in float32.
* `plan.yaml`, `labels.yaml`, `card.yaml`: as in the model; the card names every file with its SHA-256.
"""

"""The page that lies in an exported folder: what it is, and how to run it elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.inference.exported import Format
    from medseg.model import Card
    from medseg.plan import Plan

_LOADING: dict[Format, tuple[str, str, str]] = {  # the library, a file made ready, and run
    "onnx": (
        "onnxruntime",
        'onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])',
        'network.run(["logits"], {"windows": windows})[0]',
    ),
    "openvino": (
        "openvino",
        'openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})',
        'network({"windows": windows})["logits"]',
    ),
    "torchscript": (
        "torch",
        "torch.jit.load(file).eval()",
        "network(torch.from_numpy(windows)).detach().numpy()",
    ),
}


def page(plan: Plan, card: Card, kind: Format, members: Sequence[str]) -> str:
    """Return ``README.md`` of an export to ONNX, OpenVINO or TorchScript."""
    library, loading, running = _LOADING[kind]
    files = ", ".join(f'"{name}"' for name in members)
    return f"""# {card.name}, exported to {kind}

Segments {", ".join(plan.labels.names)} in {", ".join(plan.channels)}. {card.intended_use}
`medseg segment` runs this folder as it runs a model. Elsewhere, in this folder:

```python
import numpy as np
import {library}

example = np.load("example.npz")
windows = example["windows"]  # float32 (N, {len(plan.channels)}, {", ".join(map(str, plan.spatial_patch))}), any N
members = [{files}]  # averaged as logits
logits = 0
for file in members:
    network = {loading}
    logits = logits + {running} / len(members)
print((logits.argmax(axis=1) == example["labels"]).mean())  # 1.0: as PyTorch has it
```

* `processing.yaml`: what happens before and after the network, in words and numbers.
* `parity.json`: how far each member is from PyTorch's on the example, both in float32.
* `plan.yaml`, `labels.yaml`, `card.yaml`: as in the model; the card names every file with its SHA-256.
"""

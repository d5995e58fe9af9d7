"""nnU-Net v2's trained models, read as they lie on disk (Isensee 2021, Nature Methods 18:203).

Nothing of nnU-Net is needed or run, and nothing is unpickled but tensors and plain values. What plans, labels and
checkpoints say is brought into a medseg `Plan` and the names of our network, or refused in a sentence.
"""

from __future__ import annotations

from medseg.nnunet.architecture import to_spec
from medseg.nnunet.archive import unpacked
from medseg.nnunet.checkpoint import Checkpoint, read_checkpoint
from medseg.nnunet.folder import TrainedFolder, find_folder
from medseg.nnunet.plans import Configuration, read_configuration
from medseg.nnunet.translate import to_plan
from medseg.nnunet.weights import has_batch_norm, to_state

__all__ = [
    "Checkpoint",
    "Configuration",
    "TrainedFolder",
    "find_folder",
    "has_batch_norm",
    "read_checkpoint",
    "read_configuration",
    "to_plan",
    "to_spec",
    "to_state",
    "unpacked",
]

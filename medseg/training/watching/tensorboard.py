"""TensorBoard: numbers and pictures as event files in the fold's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


class TensorBoard:
    """Event files that ``tensorboard --logdir RUN`` shows; epochs are the steps.

    Parameters
    ----------
    folder : Path
        Where event files lie; made where it is missing.
    after : int
        Epochs finished: what an earlier try wrote of later ones is not shown.
    """

    def __init__(self, folder: Path, *, after: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an extra, loaded when it is wanted

        purge = after + 1 if folder.is_dir() else None
        self._writer = SummaryWriter(str(folder), purge_step=purge)

    def numbers(self, epoch: int, values: Mapping[str, float], /) -> None:
        """Write scalars, and flush, so that they are seen at once."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def picture(self, epoch: int, name: str, pixels: NDArray[np.uint8], /) -> None:
        """Write a picture, (rows, columns, 3)."""
        self._writer.add_image(name, pixels, epoch, dataformats="HWC")

    def close(self, reason: str, /) -> None:
        """End the writer's thread."""
        self._writer.close()

"""How bright a scan is shown: windows of CT by tissue, percentiles for the rest. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CT_WINDOWS: dict[str, tuple[float, float]] = {
    "soft tissue": (-160.0, 240.0),
    "lung": (-1350.0, 150.0),
    "bone": (-500.0, 1300.0),
}
"""The usual windows in HU, from their lower to their upper end: width 400 at 40, 1500 at -600, 1800 at 400."""

CT_RANGE = (-1024.0, 3071.0)
_PERCENTILES = (0.5, 99.5)
_SAMPLED = 200_000
_PADDING_HU, _AIR_HU = -3100.0, -900.0


def contrast_window(array_zyx: NDArray[Any], modality: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the ends of the window, and the ends its slider has.

    CT, and a file that names no modality but has whole numbers as low as air in HU, is shown as soft tissue; other
    scans between percentiles 0.5 and 99.5 of a sample of their voxels; 8-bit pictures from 0 to 255.

    Parameters
    ----------
    array_zyx : (Z, Y, X) numbers
        The scan; at most some 200 000 voxels of it are looked at.
    modality : str
        DICOM's word; another one for scans that name none.

    Examples
    --------
    >>> contrast_window(np.zeros((2, 3, 4), np.int16), "CT")
    ((-160.0, 240.0), (-1024.0, 3071.0))
    """
    if array_zyx.dtype == np.uint8:
        return (0.0, 255.0), (0.0, 255.0)
    values = _sample(array_zyx)
    if not values.size:
        return (0.0, 1.0), (0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    if modality.upper() == "CT" or (not modality and _looks_like_ct(array_zyx, low)):
        return CT_WINDOWS["soft tissue"], (min(low, CT_RANGE[0]), max(high, CT_RANGE[1]))
    if not high > low:
        return (low, low + 1.0), (low, low + 1.0)
    dark, bright = (float(v) for v in np.percentile(values, _PERCENTILES))
    return ((dark, bright) if bright > dark else (low, high)), (low, high)


def _looks_like_ct(array_zyx: NDArray[Any], low: float) -> bool:
    """Tell whether values may be HU: whole, and as low as air or a scanner's padding. For brightness, nothing else."""
    return array_zyx.dtype.kind == "i" and _PADDING_HU <= low <= _AIR_HU


def _sample(array_zyx: NDArray[Any]) -> NDArray[Any]:
    """Return finite voxels of whole rows spread over the scan, so that little memory is touched."""
    rows = array_zyx.shape[0] * array_zyx.shape[1]
    wanted = max(1, _SAMPLED // max(1, array_zyx.shape[2]))
    number = np.unique(np.linspace(0, rows - 1, min(rows, wanted)).astype(int))
    z, y = np.divmod(number, array_zyx.shape[1])
    values: NDArray[Any] = array_zyx[z, y]
    finite: NDArray[Any] = values[np.isfinite(values)]
    return finite

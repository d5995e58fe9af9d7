"""What a scanner adds to anatomy: blur, noise, bias field, the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medseg.geometry import Geometry

    Image = NDArray[np.float32]


def blurred(image_zyx: Image, geometry: Geometry, sigma_mm: Sequence[float]) -> Image:
    """Return the image under a Gaussian point spread of `sigma_mm` along (Z, Y, X)."""
    sigma = np.asarray(sigma_mm) / np.asarray(geometry.spacing_mm)
    out: Image = ndimage.gaussian_filter(image_zyx, sigma, truncate=3.0)
    return out


def ct_noise(image_zyx: Image, geometry: Geometry, level_hu: float, rng: np.random.Generator) -> Image:
    """Return noise as filtered back-projection leaves it: grainy within slices, stronger deep inside the body.

    The noise power rises with frequency like the ramp filter and falls with the apodisation (Riederer, Pelc and
    Chesler, The noise power spectrum in computed X-ray tomography, Phys Med Biol 23, 1978). `level_hu` is the standard
    deviation in the middle of an average body.
    """
    ny, nx = image_zyx.shape[1:]
    frequency = np.hypot(np.fft.fftfreq(ny)[:, None], np.fft.rfftfreq(nx)[None, :])  # cycles per voxel
    transfer = np.sqrt(frequency + 0.02) * np.exp(-((frequency / 0.38) ** 2))
    gain = np.sqrt(np.mean(transfer**2))
    depth = _depth(image_zyx, geometry)
    noise = np.empty_like(image_zyx)
    for k in range(len(noise)):
        white = rng.standard_normal((ny, nx), dtype=np.float32)
        noise[k] = np.fft.irfft2(np.fft.rfft2(white) * (transfer / gain), s=(ny, nx))
    noise *= level_hu * (np.float32(0.35) + np.float32(0.7) * depth * depth)
    return noise


def bias_field(geometry: Geometry, strength: float, rng: np.random.Generator) -> Image:
    """Return a smooth gain about 1, as a receive coil leaves it: the exponential of a random quadratic in LPS mm."""
    centre = geometry.to_lps((np.array(geometry.shape) - 1) / 2)
    slope, bend = rng.normal(0, strength / 120, 3), rng.normal(0, strength / 120**2, 3)
    index = np.ogrid[tuple(slice(0, n) for n in geometry.shape)]
    exponent = np.zeros(geometry.shape, dtype=np.float32)
    for axis in range(3):
        steps = geometry.affine[axis]
        mm = steps[0] * index[0] + steps[1] * index[1] + steps[2] * index[2] + (steps[3] - centre[axis])
        exponent += (slope[axis] * mm + bend[axis] * mm * mm).astype(np.float32)
    field: Image = np.exp(exponent)
    return field


def rician(image_zyx: Image, sigma: float, rng: np.random.Generator) -> Image:
    """Return the magnitude of the image with complex Gaussian noise (Gudbjartsson and Patz, MRM 34, 1995)."""
    real = image_zyx + np.float32(sigma) * rng.standard_normal(image_zyx.shape, dtype=np.float32)
    imaginary = np.float32(sigma) * rng.standard_normal(image_zyx.shape, dtype=np.float32)
    magnitude: Image = np.hypot(real, imaginary)
    return magnitude


def _depth(image_zyx: Image, geometry: Geometry) -> Image:
    """Return about 0 in air far from the body, about 1 in the middle of an average body."""
    spacing = np.asarray(geometry.spacing_mm)
    step = np.maximum(1, np.floor(8.0 / spacing).astype(int))
    coarse = image_zyx[:: step[0], :: step[1], :: step[2]]
    density = np.clip(coarse / 1000 + 1, 0, 1.6).astype(np.float32)
    smooth = ndimage.gaussian_filter(density, 55.0 / (spacing * step) * np.array([0.5, 1, 1]), mode="constant")
    at = [np.minimum(np.arange(n) / s, c - 1.0) for n, s, c in zip(image_zyx.shape, step, coarse.shape, strict=True)]
    fine = smooth
    for axis, places in enumerate(at):
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, fine.shape[axis] - 1)
        share = (places - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        fine = np.take(fine, low, axis) * (1 - share) + np.take(fine, high, axis) * share
    depth: Image = np.clip(fine / np.float32(0.95), 0, 1.2)
    return depth

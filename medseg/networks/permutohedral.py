"""The permutohedral lattice: Gaussian sums over many points of few dimensions, in time linear in their number.

The lattice tiles space with equal simplices. Each point hands its values to the D + 1 vertices of the simplex around it
(splat), the vertices mix with their neighbours along each of D + 1 directions (blur), and each point reads its simplex
again (slice). Steps, scale and vertices are those of Adams, Baek and Davis 2010 (Computer Graphics Forum 29:753).

Two departures bring the sums nearer to the Gaussian. The blur goes twice over a lattice that is finer by as much, up to
`FINE` dimensions, as the shape of one pass shows. And neighbours without points are vertices too, a ring of them for
each pass: without them what crosses a gap between points is lost. Beyond `RINGED` vertices there are no more rings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from medseg.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

FINE = 4
"""The most dimensions for which the blur goes twice: a finer lattice has too many vertices in more."""
RINGED = 1 << 21
"""A lattice of more vertices is not widened, to bound memory and time."""
_AT_ONCE = 1 << 18  # points placed at once
_KEYS = 2**62  # vertices that can be told apart


@dataclass(frozen=True, eq=False)
class Permutohedral:
    """The lattice around N points of D dimensions; made by `around`.

    Attributes
    ----------
    corners : (N, D + 1) int32, or int64 where there are too many
        The vertices of each point's simplex.
    shares : (N, D + 1) float
        What each of them holds of the point: barycentric, a sum of one.
    points, point_shares, bounds : (N (D + 1),), (N (D + 1),), (M + 1,)
        The same sorted by vertex: the points that touch vertex m, and their shares, begin at ``bounds[m]``.
    neighbours : (D + 1, 2, M) int64
        The vertex before and after each along each direction; M where there is none.
    passes : int
        How often the blur goes over all directions.
    """

    corners: Tensor
    shares: Tensor
    points: Tensor
    point_shares: Tensor
    bounds: Tensor
    neighbours: Tensor
    passes: int

    @classmethod
    def around(cls, features_dn: Tensor) -> Permutohedral:
        """Return the lattice around points.

        Parameters
        ----------
        features_dn : (D, N) float
            Coordinates in standard deviations of the Gaussian.

        Raises
        ------
        InputError
            Where the points lie too far apart for the lattice to be numbered.
        """
        passes = 2 if len(features_dn) <= FINE else 1
        keys, shares, stride = _placed(features_dn, passes)
        ordered, order = keys.flatten().sort()
        own, counts = torch.unique_consecutive(ordered, return_counts=True)
        vertices = own
        for _ in range(passes):
            if len(vertices) > RINGED:
                break
            around = [_stepped(vertices, stride, a, back) for a in range(len(stride)) for back in (False, True)]
            vertices = torch.unique(torch.cat([vertices, *around]))
        found = torch.searchsorted(vertices, own)
        held = torch.zeros(len(vertices), dtype=torch.int64, device=keys.device).index_copy_(0, found, counts)
        kind = torch.int32 if keys.numel() < 2**31 else torch.int64
        corners = torch.empty_like(order, dtype=kind)
        corners[order] = found.to(kind).repeat_interleave(counts)
        sides = [
            [_where(vertices, _stepped(vertices, stride, a, b)) for b in (True, False)] for a in range(len(stride))
        ]
        return cls(
            corners=corners.reshape(keys.shape),
            shares=shares,
            points=(order // len(stride)).to(kind),
            point_shares=shares.flatten()[order],
            bounds=F.pad(held.cumsum(0), (1, 0)).to(kind),
            neighbours=torch.stack([torch.stack(pair) for pair in sides]),
            passes=passes,
        )

    @property
    def peak(self) -> float:
        """What a vertex's blurred value is multiplied by, so that the kernel's integral is that of exp(-r²/2)."""
        dimensions = self.shares.shape[1] - 1
        return math.pow(2 * math.pi * _variance(self.passes), dimensions / 2) * math.sqrt(dimensions + 1)

    def summed(self, values_nk: Tensor) -> Tensor:
        """Return about ``sum_j exp(-|f_i - f_j|² / 2) values_jk`` for every point i, itself included, as (N, K).

        Examples
        --------
        >>> features = torch.rand(3, 50) * 4
        >>> kernel = torch.exp(-0.5 * torch.cdist(features.T, features.T) ** 2)
        >>> found, exact = Permutohedral.around(features).summed(torch.ones(50, 1)), kernel.sum(dim=1, keepdim=True)
        >>> bool((found - exact).abs().mean() < 0.1 * exact.mean())
        True
        """
        held = F.embedding_bag(
            self.points,
            values_nk,
            self.bounds,
            mode="sum",
            per_sample_weights=self.point_shares,
            include_last_offset=True,
        )
        nothing = held.new_zeros(1, held.shape[1])
        for _ in range(self.passes):
            for before, after in self.neighbours:
                wide = torch.cat([held, nothing])
                held = wide[before].add_(wide[after]).mul_(0.25).add_(held, alpha=0.5)
        return F.embedding_bag(self.corners, held, per_sample_weights=self.shares, mode="sum").mul_(self.peak)

    def own(self) -> Tensor:
        """Return what each point gives to itself in `summed`: about one, by its place in its simplex, as (N,).

        Two vertices of a simplex that are m apart in its order differ by one step along each of m directions; n passes
        of the blur carry binomial weights of t steps along each, and one step along all D + 1 leads back to the start.
        """
        size, reach = self.shares.shape[1], self.passes
        taps = {t: math.comb(2 * reach, reach + t) / 4**reach for t in range(-reach, reach + 1)}
        apart = [
            sum(taps.get(t + 1, 0.0) ** m * taps.get(t, 0.0) ** (size - m) for t in range(-reach - 1, reach + 1))
            for m in range(size)
        ]
        rows = [[apart[abs(r - s)] for s in range(size)] for r in range(size)]
        blur = torch.tensor(rows, dtype=self.shares.dtype, device=self.shares.device)
        return ((self.shares @ blur) * self.shares).sum(dim=1) * self.peak


def _variance(passes: int) -> float:
    """Return the kernel's variance on a lattice of unit scale: the blur's, and that of splat and slice."""
    return passes / 2 + 1 / 6


def _placed(features_dn: Tensor, passes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return key and share of each point's D + 1 vertices, (N, D + 1) each, and the keys' stride along each axis.

    A vertex of remainder r has coordinates that are r modulo D + 1. Its key holds r and the quotients of all axes but
    the last, which follows from the others, as the coordinates of a vertex sum to zero.
    """
    size = len(features_dn) + 1
    middle = (features_dn.amin(dim=1) + features_dn.amax(dim=1)) / 2
    basis = _basis(features_dn, size * math.sqrt(_variance(passes)))
    half = (features_dn.amax(dim=1) - middle) @ basis.abs()
    reach = [math.ceil(float(h) / size) + 2 + passes for h in half]  # quotients lie between -reach and reach
    spans = [2 * r + 1 for r in reach[:-1]]
    if math.prod(spans) * size >= _KEYS:
        raise InputError(
            "the voxels lie too far apart, in standard deviations of the appearance kernel, to be told apart",
            remedy="Choose larger appearance_sigma_mm or appearance_sigma_intensity",
        )
    strides = [size * math.prod(spans[:a]) for a in range(size - 1)]
    stride = torch.tensor([*strides, 0], device=features_dn.device)
    origin = sum(r * s for r, s in zip(reach, strides, strict=False))
    keys = torch.empty(features_dn.shape[1], size, dtype=torch.int64, device=features_dn.device)
    shares = torch.empty(keys.shape, dtype=features_dn.dtype, device=features_dn.device)
    for start in range(0, len(keys), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        quotient, rank, sorted_n = _simplex(basis.T @ (features_dn[:, part] - middle[:, None]))
        shares[part, 0] = 1 + sorted_n[-1] - sorted_n[0]
        shares[part, 1:] = (sorted_n[:-1] - sorted_n[1:]).flip(0).T
        base = (quotient * stride[:, None]).sum(dim=0) + origin
        for r in range(size):
            keys[part, r] = base + r - ((rank >= size - r) * stride[:, None]).sum(dim=0)
    return keys, shares, stride


def _basis(like: Tensor, scale: float) -> Tensor:
    """Return D orthogonal rows of length `scale` in the plane of D + 1 coordinates that sum to zero."""
    size = len(like) + 1
    rows = torch.tril(torch.ones(size - 1, size)) - torch.diag(torch.arange(1.0, size), 1)[:-1]
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return (rows * (scale / lengths)).to(like)


def _simplex(elevated: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the simplex around each of N points, given by D + 1 coordinates that sum to zero.

    Returns
    -------
    tuple of (D + 1, N) Tensor
        The quotients of the nearest vertex of remainder zero (int64); the rank of each coordinate by its distance from
        it, the farthest above first (int64); and these distances in order, in units of D + 1.
    """
    size = len(elevated)
    scaled = elevated / size
    quotient = scaled.round()
    rank = _rank(scaled - quotient) + quotient.sum(dim=0).to(torch.int64)
    low, high = rank < 0, rank >= size
    quotient += low.to(quotient) - high.to(quotient)
    rank += (low.to(torch.int64) - high.to(torch.int64)) * size
    ordered = torch.empty_like(scaled).scatter_(0, rank, scaled - quotient)
    return quotient.to(torch.int64), rank, ordered


def _rank(values: Tensor) -> Tensor:
    """Return the place of each of a column's values when the largest comes first; of equals, the upper."""
    rank = torch.zeros_like(values, dtype=torch.int64)
    for i in range(len(values)):
        for j in range(i):
            later = values[j] >= values[i]
            rank[i] += later
            rank[j] += ~later
    return rank


def _stepped(keys: Tensor, stride: Tensor, axis: int, back: bool) -> Tensor:  # noqa: FBT001 - which way, of two
    """Return the keys one step on, or back: one more on every coordinate, D + 1 less on that of `axis`."""
    size = len(stride)
    remainder = keys % size
    if back:
        wrapped = keys + (size - 1) - stride.sum() + stride[axis]
        return torch.where(remainder > 0, keys - 1 + stride[axis], wrapped)
    wrapped = keys - (size - 1) + stride.sum() - stride[axis]
    return torch.where(remainder < size - 1, keys + 1 - stride[axis], wrapped)


def _where(vertices: Tensor, keys: Tensor) -> Tensor:
    """Return the place of each key among the sorted vertices; their number where it is not among them."""
    place = torch.searchsorted(vertices, keys).clamp_(max=len(vertices) - 1)
    return torch.where(vertices[place] == keys, place, len(vertices))

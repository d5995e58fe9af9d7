"""Pictures of a mask on its scan: one slice a plane, upright, with outlines, letters, a scale and a legend.

The patient lies as radiologists look at pictures: right side on the left, head or front up. Slices are those in which
the mask is largest. Millimetres are drawn equally long in every direction and every plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from medseg.errors import InputError
from medseg.resample import resample
from medseg.volume import let_go, values_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medseg.labels import Label, LabelSet
    from medseg.volume import Segmentation, Volume

    Window = tuple[float, float]
    Pixels = NDArray[np.uint8]

_FINER = 2  # panels are drawn at twice the size and shrunk: smooth outlines
_OUTLINE_PX = 1.5
_FILL = 0.22  # how much of the label's colour covers its inside
_MARGIN, _GAP, _LINE = 22, 14, 20
_BACKGROUND, _INK, _FAINT = (11, 13, 16), (236, 239, 244), (139, 147, 160)
_LEGEND_LIMIT = 24
_SCALES_MM = (1, 2, 5, 10, 20, 50, 100, 200)
_SCALE_SHARE = 0.4  # of a panel's width that the scale bar may take
_MIN_EXTENT_PX, _MIN_WIDTH = 4, 240
_PERCENTILES = (0.5, 99.5)
_COLOUR_CHANNELS = ("red", "green", "blue")

# Windows of CT, from and to in HU, as they stand in radiology's textbooks (level 40 width 400, and so on).
_SOFT_TISSUE: Window = (-160.0, 240.0)
_LUNG: Window = (-1350.0, 150.0)
_BONE: Window = (-450.0, 1050.0)
_AERATED_BELOW, _CALCIFIED_ABOVE = -300.0, 250.0


@dataclass(frozen=True, slots=True)
class _Plane:
    """A plane through an array along S, P, L: its slice axis, and the letters at its left, right, top and bottom."""

    name: str
    axis: int
    letters: str

    def cut(self, array: NDArray[Any], index: int) -> NDArray[Any]:
        """Return the slice with the patient upright: (rows, columns) and what further axes there are in front."""
        flat = np.take(array, index, axis=array.ndim - 3 + self.axis)
        return flat if self.name == "axial" else np.flip(flat, axis=-2)  # S rises with the index, pictures go down


_PLANES = (_Plane("axial", 0, "RLAP"), _Plane("coronal", 1, "RLSI"), _Plane("sagittal", 2, "APSI"))


def overlay_png(
    volume: Volume,
    segmentation: Segmentation,
    *,
    window: Window | None = None,
    panel_px: int = 340,
    letters: bool = True,
    legend: tuple[Sequence[str], int] | None = None,
) -> bytes:
    r"""Draw the outlines of a mask on axial, coronal and sagittal slices of its scan.

    Parameters
    ----------
    volume : Volume
        The scan; of several channels the first is drawn, red, green and blue together as a colour picture.
    segmentation : Segmentation
        The mask; it is drawn where it lies in the patient, whatever its grid. Tilted scans are drawn right-angled, so
        that the body does not lean.
    window : tuple of float, optional
        Values that become black and white. By default a CT window that suits what the mask covers (soft tissue, lung or
        bone), and for other images their 0.5th and 99.5th percentile.
    panel_px : int
        Longest side of a panel in pixels.
    letters : bool
        Whether to mark the patient's sides; leave them out where the file does not say how the image lies.
    legend : tuple of (sequence of str, int), optional
        Lines that stand in the legend for the labels up to an id, which are then colours without a name.

    Returns
    -------
    bytes
        A PNG file without metadata.

    Raises
    ------
    InputError
        Where the panel would be too small to see anything.

    Examples
    --------
    >>> from medseg.geometry import Geometry
    >>> from medseg.labels import LabelSet
    >>> from medseg.volume import Segmentation, Volume
    >>> grid = Geometry((8, 8, 8), np.eye(4))
    >>> mask = np.zeros((8, 8, 8), dtype=np.uint8)
    >>> mask[2:5, 2:6, 2:6] = 1
    >>> scan = Volume(mask[None] * np.int16(100), grid)
    >>> overlay_png(scan, Segmentation(mask, grid, LabelSet.from_names({1: "heart"})))[:4]
    b'\x89PNG'
    """
    if panel_px < 16:
        raise InputError(f"a picture of {panel_px} pixels was asked for", expected="16 or more")
    upright = (volume.geometry.without_shear() if volume.geometry.is_sheared else volume.geometry).reoriented("SPL")
    fill = float(volume.array.min()) if volume.geometry.is_sheared else None
    image = resample(volume, onto=upright, fill=fill, shared=True).array
    mask = resample(segmentation, onto=upright, shared=True).array
    colours = all(name in _COLOUR_CHANNELS for name in volume.channels) and len(image) == len(_COLOUR_CHANNELS)
    image = image if colours else image[:1]
    limits = window or _window(image, mask, channel=volume.channels[0])
    extents_mm = [n * s for n, s in zip(upright.shape, upright.spacing_mm, strict=True)]
    planes = [p for p in _PLANES if min(n for a, n in enumerate(upright.shape) if a != p.axis) > 1] or [_PLANES[0]]
    px_per_mm = panel_px / max(e for p in planes for a, e in enumerate(extents_mm) if a != p.axis)
    palette = _palette(segmentation.labels)
    panels = []
    for plane in planes:
        index = _largest_slice(mask, plane.axis)
        height, width = (max(_MIN_EXTENT_PX, round(e * px_per_mm)) for a, e in enumerate(extents_mm) if a != plane.axis)
        picture = _drawn(
            plane.cut(image, index), plane.cut(mask, index), (width, height), limits=limits, palette=palette
        )
        caption = f"{plane.name if letters else 'slice'} {index + 1}/{upright.shape[plane.axis]}"
        panels.append(_Panel(picture, caption, plane.letters if letters else ""))
    let_go(volume.array)
    found = set(values_in(mask))
    lines, nameless = legend or ((), 0)
    entries: list[Label | str] = [*lines]
    entries += [label for label in segmentation.labels if label.id in found and label.id > nameless]
    return _sheet(panels, entries, px_per_mm=px_per_mm if letters else None)


def _largest_slice(mask: NDArray[Any], axis: int) -> int:
    """Return the slice with most foreground; the middle one where there is none."""
    area = np.count_nonzero(mask, axis=tuple(a for a in range(3) if a != axis))
    return int(area.argmax()) if area.any() else mask.shape[axis] // 2


def _window(image: NDArray[Any], mask: NDArray[Any], *, channel: str) -> Window:
    if channel.upper() == "CT":
        inside = image[0][mask > 0]
        typical = float(np.median(inside)) if inside.size else 0.0
        if typical < _AERATED_BELOW:
            return _LUNG
        return _BONE if typical > _CALCIFIED_ABOVE else _SOFT_TISSUE
    if image.dtype == np.uint8:
        return 0.0, 255.0
    thinned = image[(slice(None), *(slice(None, None, max(1, n // 128)) for n in image.shape[1:]))]
    finite = thinned[np.isfinite(thinned)]
    low, high = np.percentile(finite, _PERCENTILES) if finite.size else (0.0, 1.0)
    return float(low), float(high)


def _palette(labels: LabelSet) -> NDArray[np.float32]:
    """Return each label's colour at its id."""
    palette = np.zeros((max(labels.ids, default=0) + 1, 3), dtype=np.float32)
    for label in labels:
        palette[label.id] = label.color
    return palette


def _drawn(
    image: NDArray[Any], mask: NDArray[Any], size: tuple[int, int], *, limits: Window, palette: NDArray[np.float32]
) -> Image.Image:
    """Return one slice, (channels, rows, columns), with its mask, in a picture of `size` (width, height)."""
    fine = (size[0] * _FINER, size[1] * _FINER)
    low, high = limits
    shades = np.nan_to_num(np.clip((image.astype(np.float32) - low) / max(high - low, 1e-6), 0.0, 1.0))
    channels = [_scaled(shade, fine, Image.Resampling.BICUBIC) for shade in shades]
    rgb = np.stack(channels if len(channels) > 1 else channels * 3, axis=-1).clip(0.0, 1.0) * 255.0
    drawn = _smooth_labels(mask, fine)
    reach = 2 * round(_OUTLINE_PX * _FINER) + 1
    border = ndimage.maximum_filter(drawn, reach) != ndimage.minimum_filter(drawn, reach)
    cover = np.where(drawn > 0, np.where(border, 1.0, _FILL), 0.0)[..., None]
    rgb = rgb * (1.0 - cover) + palette[drawn] * cover
    return Image.fromarray(rgb.round().astype(np.uint8)).resize(size, Image.Resampling.BOX)


def _smooth_labels(mask: NDArray[Any], size: tuple[int, int]) -> NDArray[np.int64]:
    """Return the label that weighs most at each pixel of a finer picture, so that outlines run smoothly."""
    best = _scaled((mask == 0).astype(np.float32), size, Image.Resampling.BILINEAR)
    drawn = np.zeros(best.shape, dtype=np.int64)
    for label_id in np.unique(mask[mask > 0]).tolist():
        weight = _scaled((mask == label_id).astype(np.float32), size, Image.Resampling.BILINEAR)
        wins = weight > best
        drawn[wins] = label_id
        best[wins] = weight[wins]
    return drawn


def _scaled(values: NDArray[np.float32], size: tuple[int, int], rule: Image.Resampling) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(np.ascontiguousarray(values)).resize(size, rule), dtype=np.float32).copy()


# -- the sheet ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Panel:
    """One slice's picture, what stands above it, and the letters at its left, right, top and bottom."""

    picture: Image.Image
    caption: str
    letters: str


def _sheet(panels: Sequence[_Panel], present: Sequence[Label | str], *, px_per_mm: float | None) -> bytes:
    """Set the panels side by side, with captions above, letters around and the legend below."""
    height = max(panel.picture.height for panel in panels)
    width = sum(panel.picture.width + 2 * _MARGIN for panel in panels) + _GAP * (len(panels) - 1)
    width = max(width, _MIN_WIDTH)
    font = ImageFont.load_default(size=13)
    rows = _legend_rows(present, width, font)
    top = _LINE + _MARGIN
    sheet = Image.new("RGB", (width, top + height + _MARGIN + _LINE * len(rows) + 8), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    left = _MARGIN
    for panel in panels:
        corner = (left, top + (height - panel.picture.height) // 2)
        sheet.paste(panel.picture, corner)
        draw.text(
            (left + panel.picture.width / 2, corner[1] - top + 6), panel.caption, font=font, fill=_FAINT, anchor="ma"
        )
        _letter(draw, corner, panel, font)
        left += panel.picture.width + 2 * _MARGIN + _GAP
    if px_per_mm is not None:
        first = panels[0].picture
        _scale_bar(draw, (_MARGIN, top + (height - first.height) // 2), first.size, px_per_mm=px_per_mm, font=font)
    for number, row in enumerate(rows):
        _legend(draw, row, top + height + _MARGIN + number * _LINE, font)
    target = BytesIO()
    sheet.save(target, format="PNG", optimize=True)
    return target.getvalue()


def _letter(draw: ImageDraw.ImageDraw, corner: tuple[int, int], panel: _Panel, font: Any) -> None:
    (x, y), (width, height) = corner, panel.picture.size
    middle, centre = y + height / 2, x + width / 2
    places = ((x - 11, middle), (x + width + 11, middle), (centre, y - 10), (centre, y + height + 10))
    for place, letter in zip(places, panel.letters, strict=False):  # no letters where the orientation is unknown
        draw.text(place, letter, font=font, fill=_INK, anchor="mm")


def _scale_bar(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], size: tuple[int, int], *, px_per_mm: float, font: Any
) -> None:
    """Draw a round length at the lower right of a panel that is large enough for it."""
    fitting = [mm for mm in _SCALES_MM if mm * px_per_mm <= _SCALE_SHARE * size[0]]
    if not fitting or size[1] < 3 * _LINE:
        return
    length = fitting[-1] * px_per_mm
    x, y = corner[0] + size[0] - 10, corner[1] + size[1] - 10
    draw.line([(x - length, y), (x, y)], fill=_INK, width=2)
    name = f"{fitting[-1]} mm"
    draw.text((x, y - 4), name, font=font, fill=_INK, anchor="rd", stroke_width=2, stroke_fill=_BACKGROUND)


def _legend_rows(present: Sequence[Label | str], width: int, font: Any) -> list[list[tuple[float, Label | None, str]]]:
    """Break the legend into rows: for each entry its left edge, its label and its text."""
    entries: list[tuple[Label | None, str]] = [
        (None, _plain(entry)) if isinstance(entry, str) else (entry, _plain(entry.name))
        for entry in present[:_LEGEND_LIMIT]
    ]
    if not present:
        entries = [(None, "nothing found")]
    elif len(present) > _LEGEND_LIMIT:
        entries.append((None, f"and {len(present) - _LEGEND_LIMIT} more"))
    rows: list[list[tuple[float, Label | None, str]]] = [[]]
    x = float(_MARGIN)
    for label, text in entries:
        length = 18 + font.getlength(text) + 16
        if rows[-1] and x + length > width - _MARGIN / 2:
            rows.append([])
            x = float(_MARGIN)
        rows[-1].append((x, label, text))
        x += length
    return rows


def _legend(draw: ImageDraw.ImageDraw, row: Sequence[tuple[float, Label | None, str]], y: int, font: Any) -> None:
    for x, label, text in row:
        if label is not None:
            draw.rounded_rectangle([x, y + 2, x + 11, y + 13], radius=3, fill=label.color)
        draw.text((x + (18 if label else 0), y + 8), text, font=font, fill=_INK if label else _FAINT, anchor="lm")


def _plain(name: str) -> str:
    """Return a name as one short line the font can draw."""
    line = "".join(c if c.isprintable() else " " for c in name).encode("latin-1", "replace").decode("latin-1")
    return line if len(line) <= 32 else line[:31] + "…"

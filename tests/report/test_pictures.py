"""Pictures: the patient upright, millimetres equally long, masks where they lie."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from medseg.errors import InputError
from medseg.geometry import Geometry
from medseg.labels import Label, LabelSet
from medseg.report import overlay_png
from medseg.report.pictures import _BACKGROUND, _LINE, _MARGIN
from medseg.resample import resample
from medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

RED = (255, 0, 0)
LABELS = LabelSet((Label(1, "liver", RED),))
SPACING = (5.0, 1.0, 2.0)
SHAPE = (20, 80, 60)  # 100 x 80 x 120 mm


def grid(shape: tuple[int, int, int] = SHAPE) -> Geometry:
    z, y, x = SPACING
    return Geometry(shape, np.array([[0, 0, x, -60.0], [0, y, 0, -40.0], [z, 0, 0, 0], [0, 0, 0, 1]]))


def scan(array: NDArray[Any] | None = None, geometry: Geometry | None = None) -> Volume:
    geometry = geometry or grid()
    return Volume(np.zeros((1, *geometry.shape), np.int16) if array is None else array, geometry, ("CT",))


def marked(low: tuple[int, int, int], high: tuple[int, int, int]) -> Segmentation:
    array = np.zeros(SHAPE, np.uint8)
    array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
    return Segmentation(array, grid(), LABELS)


def pixels(png: bytes) -> NDArray[np.int16]:
    return np.asarray(Image.open(BytesIO(png)).convert("RGB")).astype(np.int16)


def panels(picture: NDArray[np.int16]) -> list[NDArray[np.int16]]:
    """Cut the sheet into its three panels by the known sizes: 340 pixels for 120 mm."""
    sizes = [(227, 340), (283, 340), (283, 227)]
    found, left = [], _MARGIN
    for height, width in sizes:
        top = _LINE + _MARGIN + (283 - height) // 2
        found.append(picture[top : top + height, left : left + width])
        left += width + 2 * _MARGIN + 14
    return found


def redness(panel: NDArray[np.int16]) -> NDArray[np.bool_]:
    red: NDArray[np.bool_] = (panel[..., 0] - panel[..., 1]) > 20
    return red


def test_panels_have_the_aspect_of_the_patient() -> None:
    white = scan(np.full((1, *SHAPE), 1000, np.int16))
    picture = pixels(overlay_png(white, marked((9, 30, 20), (11, 40, 40)), window=(0.0, 100.0)))
    for panel in panels(picture):
        inner = panel[1:-1, 1:-1]
        dark = (inner.sum(axis=-1) < 200) & ~redness(inner)
        assert dark.mean() < 0.01  # all white but for the scale bar: the panels lie where their sizes say
    rows, columns = np.nonzero(redness(panels(picture)[0]))
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx(40 / 10, rel=0.1)  # 20 voxels of 2 mm by 10 of 1 mm
    rows, columns = np.nonzero(redness(panels(picture)[2]))
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx(10 / 10, rel=0.15)


@pytest.mark.parametrize("codes", ["SPL", "IAR", "LPS", "ARI"])
def test_the_patient_is_upright_whatever_the_storage(codes: str) -> None:
    """A mask at the patient's upper (S) left (L) back (P): right in the picture, up in coronal, down in axial."""
    mask = marked((15, 60, 45), (19, 75, 58))
    stored = grid().reoriented(codes)
    picture = pixels(overlay_png(resample(scan(), onto=stored), resample(mask, onto=stored)))
    centres = []
    for panel in panels(picture):
        rows, columns = np.nonzero(redness(panel))
        centres.append((rows.mean() / panel.shape[0], columns.mean() / panel.shape[1]))
    axial, coronal, sagittal = centres
    assert axial == pytest.approx((67.5 / 80, 51.5 / 60), abs=0.02)
    assert coronal == pytest.approx((1 - 17 / 20, 51.5 / 60), abs=0.02)
    assert sagittal == pytest.approx((1 - 17 / 20, 67.5 / 80), abs=0.02)


def test_a_body_scanned_with_a_tilted_gantry_does_not_lean() -> None:
    """A column that climbs straight up in the patient is drawn straight up."""
    affine = grid().affine.copy()
    affine[1, 0] = affine[2, 0] * np.tan(np.deg2rad(20))
    tilted = Geometry(SHAPE, affine)
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    y_mm = tilted.to_lps(index)[..., 1]
    middle = float(y_mm.mean())
    column = np.where(np.abs(y_mm - middle) < 6, 1, 0).astype(np.uint8)
    mask = Segmentation(column, tilted, marked((0, 0, 0), (1, 1, 1)).labels)
    sagittal = redness(panels(pixels(overlay_png(scan(column[None] * np.int16(100), tilted), mask)))[2])
    centres = [float(np.flatnonzero(row).mean()) for row in sagittal if row.any()]
    assert len(centres) > sagittal.shape[0] * 0.9
    assert np.ptp(centres) < 0.05 * sagittal.shape[1]


def test_letters_stand_beside_the_panels_and_can_be_left_out() -> None:
    mask = marked((5, 20, 20), (15, 60, 40))
    with_letters, without = (pixels(overlay_png(scan(), mask, letters=on)) for on in (True, False))
    middle = _LINE + _MARGIN + 283 // 2
    left_of_axial = (slice(middle - 10, middle + 10), slice(2, _MARGIN - 2))
    assert (with_letters[left_of_axial] != _BACKGROUND).any()
    assert (without[left_of_axial] == _BACKGROUND).all()


def test_outline_is_strong_and_inside_shows_the_scan() -> None:
    picture = panels(pixels(overlay_png(scan(), marked((5, 20, 20), (15, 60, 40)), window=(-100.0, 100.0))))[0]
    row = picture[picture.shape[0] // 2].astype(int)
    red = row[:, 0] - row[:, 1]
    inside = np.flatnonzero(red > 20)
    assert red[inside[1]] > 150
    assert 20 < red[inside[len(inside) // 2]] < 100
    assert np.abs(row[5] - 127).max() <= 2  # the grey of 0 HU between -100 and 100


def test_mask_on_another_grid_is_drawn_where_it_lies() -> None:
    mask = marked((5, 20, 20), (15, 60, 40))
    finer = resample(mask, onto=grid().with_spacing((2.5, 1.0, 1.0)))
    same, other = (redness(pixels(overlay_png(scan(), m))) for m in (mask, finer))
    assert (same & other).sum() / (same | other).sum() > 0.95


def test_ct_window_follows_what_the_mask_covers() -> None:
    mask = marked((5, 20, 20), (15, 60, 40))
    brightness = []
    for hounsfield in (-800, 40, 900):
        array = np.full((1, *SHAPE), -100, np.int16)
        array[0][mask.array == 1] = hounsfield
        brightness.append(int(panels(pixels(overlay_png(scan(array), mask)))[0][4, 4, 0]))
    lung, soft, bone = brightness
    assert lung > 200  # -100 HU is bright in a lung window, dark in a soft tissue window
    assert 20 < soft < 60
    assert 50 < bone < 80


def test_one_slice_is_one_panel_and_no_mask_says_so() -> None:
    flat = Geometry((1, 40, 60), np.eye(4)[[2, 1, 0, 3]])
    image = Volume(np.random.default_rng(0).integers(0, 255, (1, 1, 40, 60)).astype(np.uint8), flat)
    empty = Segmentation(np.zeros((1, 40, 60), np.uint8), flat, LABELS)
    picture = pixels(overlay_png(image, empty, letters=False))
    assert picture.shape[1] == 340 + 2 * _MARGIN
    assert not redness(picture).any()
    assert picture.std() > 20


def test_colour_pictures_stay_in_colour() -> None:
    flat = Geometry((1, 40, 60), np.eye(4)[[2, 1, 0, 3]])
    array = np.zeros((3, 1, 40, 60), np.uint8)
    array[2] = 200
    empty = Segmentation(np.zeros((1, 40, 60), np.uint8), flat, LABELS)
    picture = pixels(overlay_png(Volume(array, flat, ("red", "green", "blue")), empty))
    centre = picture[_LINE + _MARGIN + 60, _MARGIN + 170]
    assert centre.tolist() == [0, 0, 200]


def test_values_that_are_not_finite_do_not_hurt() -> None:
    array = np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32)
    array[0, :, :20] = np.nan
    array[0, 0, 0, 0] = np.inf
    picture = pixels(overlay_png(Volume(array, grid(), ("MR",)), marked((5, 20, 20), (15, 60, 40))))
    assert picture.std() > 20


def test_many_labels_with_hostile_names_make_a_legend() -> None:
    labels = LabelSet.from_names({i: f"Nerf\u200b \N{HIRAGANA LETTER A}\n{i}" + "x" * 60 for i in range(1, 41)})
    array = np.zeros(SHAPE, np.uint8)
    array[10, 10, :40] = np.arange(1, 41)
    picture = pixels(overlay_png(scan(), Segmentation(array, grid(), labels)))
    assert picture.shape[0] > _LINE + 2 * _MARGIN + 283 + 5 * _LINE


def test_the_picture_is_a_plain_png() -> None:
    image = Image.open(BytesIO(overlay_png(scan(), marked((5, 20, 20), (15, 60, 40)))))
    assert (image.format, image.mode, image.info) == ("PNG", "RGB", {})


def test_a_stamp_is_refused() -> None:
    with pytest.raises(InputError, match="8 pixels"):
        overlay_png(scan(), marked((5, 20, 20), (15, 60, 40)), panel_px=8)

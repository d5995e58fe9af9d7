from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.geometry import Geometry
from medseg.io import read_volume, write_volume
from medseg.preprocess import prepare
from medseg.volume import Volume
from tests.nnunet.folders import configuration
from tests.nnunet.test_translate import plan_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def by_simpleitk(path: Path) -> NDArray[np.float32]:
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), "RAS"))


def by_nibabel(path: Path) -> NDArray[np.float32]:
    import nibabel

    image = nibabel.load(path)
    return image.as_reoriented(nibabel.io_orientation(image.affine)).get_fdata().transpose(2, 1, 0)


def stored(path: Path) -> NDArray[np.float32]:
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


READERS = {
    "SimpleITKIO": stored,
    "NibabelIO": stored,
    "SimpleITKIOWithReorient": by_simpleitk,
    "NibabelIOWithReorient": by_nibabel,
}


@pytest.mark.parametrize("codes", ["SPL", "IAR", "LPS", "PIR"])
@pytest.mark.parametrize("turn", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("reader", READERS)
def test_the_network_sees_the_axes_of_the_reader(
    reader: str, turn: tuple[int, int, int], codes: str, tmp_path: Path
) -> None:
    grid = Geometry((4, 5, 6), np.diag([1.0, 1.0, 1.0, 1.0])).reoriented(codes)
    image = np.arange(1, 121, dtype=np.float32).reshape(1, *grid.shape)
    path = tmp_path / "scan.nii.gz"
    write_volume(Volume(image, grid), path)
    own = configuration(normalization_schemes=["NoNormalization"])
    about = {"image_reader_writer": reader, "transpose_forward": list(turn)}
    seen = prepare(read_volume(path, channels=["MRI"]), plan_of(tmp_path, own, about=about))
    np.testing.assert_array_equal(seen.array[0], READERS[reader](path).transpose(turn))

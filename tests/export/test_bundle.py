"""A bundle runs in MONAI alone, and gives the mask we give where both ways are the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser, verify_net_in_out

from medseg.errors import ModelError
from medseg.export import bundle, export_model
from medseg.geometry import Geometry
from medseg.inference import Segmenter
from medseg.io import write_volume
from medseg.model import save_model
from medseg.plan import PreprocessPlan, Rescale, TrainPlan, ZScore
from medseg.volume import Volume
from tests.networks.specs import unet
from tests.test_model import state, tiny_card, tiny_plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Made = Callable[[str], Path]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),  # what MONAI loads a bundle's network by
    pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning"),  # a decoder its reader would like
]


def parser_of(folder: Path, scans: Path, out: Path) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    parser.read_meta(str(folder / "configs" / "metadata.json"))
    parser["bundle_root"], parser["dataset_dir"], parser["output_dir"] = str(folder), str(scans), str(out)
    return parser


def blocks(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).normal(50, 120, tuple(-(-n // 4) for n in shape))
    z, y, x = shape
    return np.kron(coarse, np.ones((4, 4, 4)))[:z, :y, :x].astype(np.int16)


@pytest.mark.parametrize(
    ("shape", "equal"),
    [((8, 8, 16), 0.999), ((12, 12, 24), 0.93)],  # one window; several, whose small weights MONAI raises
)
def test_monai_gives_our_mask_on_the_plans_spacing_in_another_orientation(
    shape: tuple[int, int, int], equal: float, made: Made, tmp_path: Path
) -> None:
    folder = made("monai-bundle")
    # right to left and inferior first: neither NIfTI's axes nor the plan's
    affine = np.array([[0, 0, -1.0, 30], [0, 1.0, 0, -4], [-2.0, 0, 0, 2], [0, 0, 0, 1]])
    array = blocks(shape)
    scan = Volume(array[None], Geometry(array.shape, affine), ("CT",))
    (tmp_path / "scans").mkdir()
    write_volume(scan, tmp_path / "scans" / "a.nii.gz")
    parser_of(folder, tmp_path / "scans", tmp_path / "out").get_parsed_content("run")
    written = nib.load(tmp_path / "out" / "a_seg.nii.gz")
    source = nib.load(tmp_path / "scans" / "a.nii.gz")
    np.testing.assert_allclose(written.affine, source.affine, atol=1e-4)
    theirs = np.asarray(written.dataobj).T
    ours = Segmenter.load(folder, device="cpu").segment(scan).segmentation.array
    assert set(np.unique(theirs)) <= {0, 2, 7}
    assert len(np.unique(ours)) > 1
    assert (theirs == ours).mean() > equal
    assert (theirs[::-1] == ours).mean() < 0.9  # so a mask turned round would not pass


def test_a_flat_model_of_two_channels_runs_in_monai(tmp_path: Path) -> None:
    plan = tiny_plan(
        channels=("MR", "MR"),
        preprocess=PreprocessPlan(spacing_mm=(3, 1, 1), normalisation=(ZScore(), Rescale())),
        network=unet(2),
        train=TrainPlan(patch_size=(1, 16, 16), batch_size=1),
    )
    model = save_model(tmp_path / "model", plan=plan, members={0: state(plan)}, card=tiny_card(modalities=("MR", "MR")))
    export_model(model, tmp_path / "bundle", format="monai-bundle")
    affine = np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [5.0, 0, 0, 0], [0, 0, 0, 1]])
    arrays = np.stack([blocks((4, 16, 24), seed) for seed in (1, 2)])
    scan = Volume(arrays, Geometry(arrays.shape[1:], affine), ("MR", "MR"))
    (tmp_path / "scans").mkdir()
    for i in (0, 1):
        write_volume(Volume(arrays[i : i + 1], scan.geometry), tmp_path / "scans" / f"a_000{i}.nii.gz")
    parser_of(tmp_path / "bundle", tmp_path / "scans", tmp_path / "out").get_parsed_content("run")
    theirs = np.asarray(nib.load(tmp_path / "out" / "a_0000_seg.nii.gz").dataobj).T
    ours = Segmenter.load(tmp_path / "bundle", device="cpu").segment(scan).segmentation.array
    assert (theirs == ours).mean() > 0.93
    assert len(np.unique(ours)) > 1


def test_the_metadata_tells_the_networks_input_and_output(made: Made) -> None:
    folder = made("monai-bundle")
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(folder / "configs" / "metadata.json"),
        config_file=str(folder / "configs" / "inference.json"),
        device="cpu",
        bundle_root=str(folder),
    )
    meta = json.loads((folder / "configs" / "metadata.json").read_text())
    assert meta["network_data_format"]["outputs"]["pred"]["channel_def"] == {
        "0": "background",
        "1": "liver",
        "2": "spleen",
    }
    assert "medseg" not in (folder / "configs" / "inference.json").read_text()


def test_stored_orientation_is_refused() -> None:
    plan = tiny_plan(preprocess=PreprocessPlan(orientation="stored", spacing_mm=(1, 1, 1), normalisation=(ZScore(),)))
    with pytest.raises(ModelError, match="MONAI's transforms cannot express"):
        bundle.require_expressible(plan)

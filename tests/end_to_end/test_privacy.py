"""No patient attribute leaves the DICOM objects: names are planted, and everything medseg says is searched."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
import torch

from medseg.batch.outputs import FORMATS
from medseg.cli.app import main
from medseg.geometry import Geometry
from medseg.io.dicom import write_series
from medseg.io.dicom.quiet import quiet
from medseg.labels import LabelSet
from medseg.model import Card, DataNote, save_model
from medseg.networks import build
from medseg.plan import Plan, PreprocessPlan, TrainPlan, UNetSpec, ZScore
from medseg.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

PLANTED = {
    "PatientName": "Zyxwora^Quillfeather",
    "PatientID": "PID-7734-ZYX",
    "PatientBirthDate": "19310229",
    "OtherPatientNames": "Vorkuta^Zelda",
    "PatientAddress": "Zugspitzgasse 99",
    "PatientTelephoneNumbers": "+49-555-0199",
    "PatientMotherBirthName": "Quixworth",
    "PatientComments": "Brother of Xaverius",
    "EthnicGroup": "ZZETHNIC",
    "AccessionNumber": "ACC-990817",
    "ReferringPhysicianName": "Dr^Umlautina",
    "PerformingPhysicianName": "Dr^Operatrix",
    "OperatorsName": "Operatia^Nurse",
    "InstitutionName": "Krankenhaus Zyklop",
    "InstitutionAddress": "Zyklopenweg 1",
    "StationName": "ZYXSTATION",
    "StudyID": "STUDYZYX",
    "StudyDescription": "Study of Quillfeather",
    "SeriesDescription": "Series of Quillfeather",
    "ProtocolName": "Protocol Quillfeather",
    "RequestedProcedureDescription": "Ask Quillfeather",
    "ImageComments": "Comment Quillfeather",
    "DeviceSerialNumber": "SERIALZYX",
}
SECRETS = (
    *(part.encode() for value in PLANTED.values() for part in {value, *value.split("^")} if len(part) > 4),
    "ÜbelstätterName".encode(),
    "ÜbelstätterName".encode("latin-1"),
)
GRID = Geometry((6, 16, 18), np.array([[0, 0, 1.5, -20], [0, 1.5, 0, 30], [3.0, 0, 0, 7], [0, 0, 0, 1.0]]))


def series(folder: Path, name: str, *, spoil=None) -> None:
    """Write a series with planted names, and spoil its files."""
    array = np.random.default_rng(3).integers(-1000, 1500, (1, *GRID.shape)).astype(np.int16)
    for z, path in enumerate(write_series(Volume(array, GRID, ("CT",)), folder, name=name)):
        dataset = pydicom.dcmread(path)
        for keyword, value in PLANTED.items():
            setattr(dataset, keyword, value)
        with quiet():
            if spoil is not None:
                spoil(dataset, z)
            dataset.save_as(path)


def wrong_character_set(dataset, _z):
    dataset.SpecificCharacterSet = "ISO_IR 999"
    dataset.PatientName = "ÜbelstätterName".encode("latin-1")


def uneven(dataset, z):
    if z == 4:
        dataset.ImagePositionPatient = [-20, 30, 7 + 3 * z + 1.1]


def nowhere(dataset, _z):
    del dataset.ImagePositionPatient


def nonsense(dataset, _z):
    dataset.RescaleSlope = "0"


def no_uids(dataset, _z):
    dataset.StudyInstanceUID = ""


@pytest.fixture
def scans(tmp_path):
    root = tmp_path / "scans"
    series(root / "good", "good")
    for spoil in (wrong_character_set, uneven, nowhere, nonsense, no_uids):
        series(root / spoil.__name__, spoil.__name__, spoil=spoil)
    series(root / "short", "short")
    (cut,) = list((root / "short").glob("*0003*"))
    cut.write_bytes(cut.read_bytes()[:-200])
    series(root / "gone", "gone")
    (gone,) = list((root / "gone").glob("*0003*"))
    gone.write_bytes(gone.read_bytes()[:700])
    return root


@pytest.fixture
def model(tmp_path):
    plan = Plan(
        channels=("CT",),
        labels=LabelSet.from_names({1: "liver", 2: "kidney_left"}),
        preprocess=PreprocessPlan(spacing_mm=(3.0, 1.5, 1.5), normalisation=(ZScore(),)),
        network=UNetSpec(
            dimensions=3, features=(4, 8), strides=((1, 1, 1), (2, 2, 2)), kernels=((3, 3, 3),) * 2, convs_per_stage=1
        ),
        train=TrainPlan(patch_size=(8, 16, 16), batch_size=1),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        members = {0: build(plan.network, 1, 3).state_dict()}
    card = Card(name="m", created="2026-01-01T00:00:00Z", medseg="0", data=DataNote(name="d"), modalities=("CT",))
    return save_model(tmp_path / "model", plan=plan, members=members, card=card).folder


def assert_silent(text: bytes, where: str) -> None:
    found = [secret for secret in SECRETS if secret in text]
    assert not found, f"{where} tells {found}"


def test_nothing_tells_who_was_scanned(scans, model, tmp_path, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    out = tmp_path / "out"
    formats = ",".join(FORMATS)
    main(["inspect", str(scans), "--deep", "--debug"])
    main(["inspect", str(scans), "--json"])
    code = main(["segment", str(model), str(scans), "-o", str(out), "--format", formats, "--device", "cpu", "--debug"])
    for number, name in enumerate(("good", "uneven", "gone")):
        more = ["-o", str(tmp_path / f"out{number}"), "--on-irregular", "resample", "--json", "--debug"]
        main(["segment", str(model), str(scans / name), *more])
    said = capfd.readouterr()
    assert code == 2  # some were refused: their reasons were written
    assert "done" in said.err + said.out
    assert_silent(said.out.encode(), "stdout")
    assert_silent(said.err.encode(), "stderr")
    assert_silent(caplog.text.encode(), "the log")
    written = [path for path in tmp_path.rglob("*") if path.is_file() and scans not in path.parents]
    assert {"manifest.json", "report.html", "journal.sqlite", "segmentation.dcm"} <= {path.name for path in written}
    for path in written:
        assert_silent(str(path.relative_to(tmp_path)).encode(), "a path")
        if path.suffix != ".dcm":  # objects of DICOM carry the patient of their source, as they must
            assert_silent(path.read_bytes(), path.name)

"""doctor: what is installed, what is missing, what this machine can do."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medseg import __version__

State = Literal["ok", "missing", "info"]

REQUIRED = (
    "torch",
    "monai",
    "nibabel",
    "pydicom",
    "SimpleITK",
    "highdicom",
    "lightning-fabric",
    "safetensors",
    "scipy",
)
TRANSFER_SYNTAXES = {  # PS3.6, annex A
    "uncompressed": "1.2.840.10008.1.2.1",
    "RLE": "1.2.840.10008.1.2.5",
    "JPEG baseline": "1.2.840.10008.1.2.4.50",
    "JPEG extended, 12 bit": "1.2.840.10008.1.2.4.51",
    "JPEG lossless": "1.2.840.10008.1.2.4.70",
    "JPEG-LS lossless": "1.2.840.10008.1.2.4.80",
    "JPEG 2000 lossless": "1.2.840.10008.1.2.4.90",
    "JPEG 2000": "1.2.840.10008.1.2.4.91",
    "HTJ2K lossless": "1.2.840.10008.1.2.4.201",
}
EXTRAS = {
    "gui": ("napari", "magicgui", "qtpy"),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "mlflow": ("mlflow-skinny",),
    "openvino": ("openvino",),
    "rtstruct": ("scikit-image",),
    "stl": ("scikit-image",),
    "watch": ("tensorboard",),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One fact about the installation or the machine."""

    what: str
    state: State
    remark: str


@dataclass(frozen=True, slots=True)
class Examination:
    """Everything `doctor` found, by section."""

    sections: dict[str, list[Row]]

    @property
    def is_usable(self) -> bool:
        """Whether nothing that every job needs is missing."""
        return all(row.state != "missing" for row in self.sections["Packages"])

    @property
    def verdict(self) -> str:
        """The one sentence a person reads first."""
        missing = [row.what for row in self.sections["Packages"] if row.state == "missing"]
        if missing:
            return f"Not ready: {', '.join(missing)} missing. Install medseg again: pip install medseg."
        return "Ready: training, segmenting and evaluating will run on this machine."

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        sections = {
            title: [{"what": row.what, "state": row.state, "remark": row.remark} for row in rows]
            for title, rows in self.sections.items()
        }
        return {
            "schema": 1,
            "medseg": __version__,
            "usable": self.is_usable,
            "verdict": self.verdict,
            "sections": sections,
        }


def examine() -> Examination:
    """Look at the installation and the machine; opens no network connection."""
    packages = [_package(name, required=True) for name in REQUIRED]
    extras = [_extra(name, members) for name, members in EXTRAS.items()]
    sections = {
        "medseg": [
            Row("medseg", "info", __version__),
            Row("python", "info", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ],
        "Packages": packages,
        "Extras": extras,
        "DICOM": _decoders(),
        "Machine": _machine() if all(row.state == "ok" for row in packages) else [],
    }
    return Examination(sections)


def _package(name: str, *, required: bool) -> Row:
    try:
        return Row(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Row(name, "missing" if required else "info", "not installed")


def _extra(name: str, members: tuple[str, ...]) -> Row:
    absent = [member for member in members if _package(member, required=False).state != "ok"]
    if absent:
        return Row(name, "info", f"{', '.join(absent)} not installed: pip install 'medseg[{name}]'")
    return Row(name, "ok", ", ".join(f"{member} {importlib.metadata.version(member)}" for member in members))


def _decoders() -> list[Row]:
    if importlib.util.find_spec("pydicom") is None:
        return []
    from medseg.io.dicom.voxels.pixels import has_decoder

    rows = []
    for name, uid in TRANSFER_SYNTAXES.items():
        decodes = has_decoder(uid)
        rows.append(Row(name, "ok" if decodes else "info", "decodes" if decodes else "no decoder installed"))
    return rows


def _machine() -> list[Row]:
    from medseg.inference.hardware import describe_machine

    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    rows = [Row(what, "info", remark) for what, remark in describe_machine().items()]
    return [*rows, Row("disk", "info", f"{free_gb:.0f} GB free here"), Row("interpreter", "info", sys.executable)]

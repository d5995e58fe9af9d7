"""The options of the commands, each with its help; and what is made of their text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from medseg.errors import PlanError
from medseg.selection import either

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Recipe = Annotated[str, typer.Option("-r", "--recipe", help="A recipe's name or path, or a plan.yaml.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="Change one setting, such as train.epochs=50.")]
Memory = Annotated[str | None, typer.Option(help="Memory to plan for, such as 8GB. Default: what is free now.")]

# of train
Init = Annotated[
    Path | None,
    typer.Option(
        "--init",
        metavar="PATH",
        help="Weights to start from: a state dict by torchvision's names (.safetensors, .pt, .pth), or a model folder.",
    ),
]
Inflate = Annotated[
    bool,
    typer.Option("--inflate", help="Let --init bring 2-D weights into a 3-D network, repeated along the third axis."),
]
Workers = Annotated[
    str,
    typer.Option(
        help="Processes that make batches: a number, 0 for none, or auto by cores and free memory. Changes no result."
    ),
]
Replay = Annotated[
    str | None,
    typer.Option(
        metavar="DATASET[:SHARE]",
        help="Draw a share of the patches, a quarter unless told, from another data set with the same labels and"
        " channels, so that what a model learned there is not lost.",
    ),
]
Deterministic = Annotated[
    bool,
    typer.Option("--deterministic", help="The same bits from the same seed, data and machine; costs a little time."),
]
Watchers = Annotated[
    str,
    typer.Option(
        "--watch",
        metavar="NAMES",
        help="Who watches beside log.jsonl, comma-separated: tensorboard, mlflow (MLFLOW_TRACKING_URI, or files in the"
        " run folder), none. auto: tensorboard where it is installed.",
    ),
]

# of segment
Inputs = Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Files, DICOM series, or folders of anything.")]
Formats = Annotated[
    str,
    typer.Option(
        "--format",
        help="Comma-separated: nifti, dicom-seg, rtstruct, sr, stl, png, png-mask, measurements, instances, objects,"
        " uncertainty, probabilities, channels.",
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        help="auto, torch, onnx or openvino: what runs the network. The last two need an export (medseg export); auto"
        " takes one that is in the model's folder and proven label-equal."
    ),
]
Look = Annotated[
    Literal["whole", "body", "coarse"],
    typer.Option(
        help="At what of each scan the network looks: the whole, the body's box, or where a first pass on a coarse grid"
        " finds something. With --within it is that model which looks so."
    ),
]
Within = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL[:LABEL,...]",
        help="Look only in the box of what another model finds, such as an organ for its lesions. Where it finds"
        " nothing the mask is empty, flagged nothing-within.",
    ),
]
Crf = Annotated[
    bool | None,
    typer.Option(
        "--crf/--no-crf", help="Refine by a fully connected CRF, or don't. Default: as the model's plan says."
    ),
]
MaxRam = Annotated[
    str | None,
    typer.Option(
        "--max-ram",
        metavar="SIZE",
        help="Memory that the process and its children may hold, such as 4GB. Default: what is free.",
    ),
]
Select = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RULE",
        help="Take what meets the rule, such as 'modality=MR description~T1 slices>10'. Given several times: what meets"
        " one of them. '' takes everything, whatever the model's plan says.",
    ),
]
Channel = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME='RULE'", help="Which DICOM series of a study is the model's channel NAME. One for each."
    ),
]
AssumeRegistered = Annotated[
    bool, typer.Option("--assume-registered", help="Series in different frames of reference lie on each other.")
]
Volume = Annotated[
    int | None,
    typer.Option(min=0, help="Which volume of a 4-D series or file, counted from 0; others are taken as they are."),
]
OnIrregular = Annotated[
    Literal["refuse", "resample"],
    typer.Option(help="Slices missing or uneven: refuse, or interpolate onto a regular grid."),
]
OnMosaic = Annotated[
    Literal["refuse", "split"], typer.Option("--mosaic", help="Siemens mosaics: refuse, or take apart.")
]
OnNonfinite = Annotated[
    Literal["refuse", "fill"],
    typer.Option(help="Voxels that are no numbers: refuse, or set to the lowest finite value."),
]
AnyModality = Annotated[bool, typer.Option("--any-modality", help="Also take modalities the model was not made for.")]
SegType = Annotated[
    Literal["binary", "labelmap"],
    typer.Option(help="DICOM SEG: a bit plane for each label, or one plane of label numbers."),
]
AllFrames = Annotated[
    bool, typer.Option("--all-frames", help="DICOM SEG: a frame for every slice, also where a label is absent.")
]
Instances = Annotated[
    Literal["components", "watershed", "none"] | None,
    typer.Option(
        help="Number the objects of the mask: what hangs together, or cut at necks. Default: as the plan says."
    ),
]


def workers_of(text: str) -> int | Literal["auto"]:
    """Return what ``--workers`` means.

    Raises
    ------
    PlanError
        Where it is neither a number nor ``auto``.

    Examples
    --------
    >>> workers_of("auto"), workers_of("2")
    ('auto', 2)
    """
    if text == "auto":
        return "auto"
    if not text.isdecimal():
        raise PlanError(f"{text!r} is no number of workers", expected="--workers auto, or a number from 0")
    return int(text)


def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a comma-separated list.

    Examples
    --------
    >>> words_of("nifti, png,")
    ('nifti', 'png')
    """
    return tuple(word.strip() for word in text.split(",") if word.strip())


def rule_of(select: list[str] | None) -> str | None:
    """Return the one rule that several ``--select`` mean; None where there is none, and the plan's own counts.

    Examples
    --------
    >>> rule_of(["modality=MR", "modality=CT"])
    'modality=MR or modality=CT'
    """
    return None if select is None else either(select)


def channels_of(texts: list[str] | None) -> tuple[tuple[str, str], ...]:
    """Return name and rule of every ``--channel``.

    Raises
    ------
    PlanError
        Where one has no name or no rule.

    Examples
    --------
    >>> channels_of(["T1=description~T1", "T2=description~T2"])
    (('T1', 'description~T1'), ('T2', 'description~T2'))
    """
    pairs = [text.partition("=") for text in texts or ()]
    for name, _, rule in pairs:
        if not name.strip() or not rule.strip():
            raise PlanError(f"--channel was given {name!r}", expected="a name and a rule, as in T1='description~T1'")
    return tuple((name.strip(), rule.strip()) for name, _, rule in pairs)


def seconds_from(text: str) -> float:
    """Return a duration such as ``8m``, ``1h30m`` or ``90s`` in seconds.

    Examples
    --------
    >>> seconds_from("1h30m"), seconds_from("90")
    (5400.0, 90.0)
    """
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip().lower())
    parts = [float(part or 0) for part in match.groups()] if match else []
    total = sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    if total <= 0:
        raise PlanError(f"{text!r} is no duration", expected="one such as 90s, 8m or 1h30m")
    return total

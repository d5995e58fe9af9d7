"""Pages: nothing from elsewhere, no script, hostile text stays text, and the facts are on them."""

from __future__ import annotations

import copy
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from medseg.report import evaluation_report, segment_report, training_report
from medseg.report.page import Html, element, number

HOSTILE = """</td><script>alert("1")</script><img src=http://evil.example/x onerror='alert(2)'>"""
PNG = b"\x89PNG\r\n\x1a\nfake"

MANIFEST: dict[str, Any] = {
    "medseg": "0.1.0",
    "model": {"name": "organs", "sha256": "ab" * 32},
    "counts": {"done": 1, "refused": 1, "ignored": 1},
    "cases": [
        {
            "id": "ct-1",
            "status": "done",
            "reason": "",
            "inputs": ["a/b"],
            "outputs": {"nifti": "ct-1/segmentation.nii.gz"},
            "labels": [{"id": 1, "name": "liver", "volume_ml": 1510.236, "voxels": 9, "color": [10, 20, 30]}],
            "findings": [{"code": "x", "severity": "warning", "message": "SEG left out"}],
            "confidence": 0.912,
            "flags": ["edge"],
            "seconds": {"read": 0.5, "network": 1.25},
        },
        {"id": "ct-2", "status": "refused", "reason": "a slice is missing", "inputs": ["c"]},
        {"id": "rt", "status": "ignored", "reason": "no image", "inputs": ["rt.dcm"]},
    ],
}


class Tags(HTMLParser):
    """Every tag and attribute of a page, and whether tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def assert_harmless(text: str) -> None:
    tags = Tags(text)
    assert "script" not in tags.tags
    assert not tags.handlers
    assert all(link.startswith(("data:image/png;base64,", "./")) for link in tags.links)
    assert "http://" not in text.replace("http://evil.example", "")
    assert "url(" not in text
    assert not tags.open


def poisoned(value: Any) -> Any:
    """Return the same structure with every text made hostile."""
    if isinstance(value, dict):
        return {key if key in _KEYS else HOSTILE: poisoned(v) if key != "status" else v for key, v in value.items()}
    if isinstance(value, list):
        return [poisoned(v) for v in value]
    return HOSTILE if isinstance(value, str) else value


_KEYS = {
    *MANIFEST,
    *(key for case in MANIFEST["cases"] for key in case),
    "name",
    "message",
    "volume_ml",
    "voxels",
    "color",
}
_KEYS |= {"id", "label", "dice", "summary", "missing", "notes", "labels", "overall", "mean", "ci95", "n", "comparison"}


def document() -> dict[str, Any]:
    dice = {"mean": 0.75, "median": 0.75, "ci95": [0.5, 1.0], "n": 2, "undefined": 0}
    moved = {
        "mean_difference": 0.1,
        "median_difference": 0.1,
        "ci95": [0.05, 0.15],
        "p_value": 0.01,
        "p_holm": 0.02,
        "n": 2,
    }
    return {
        "labels": [{"id": 1, "name": "liver", "color": [1, 2, 3]}],
        "cases": [
            {"id": "a", "label": "liver", "dice": 1.0, "iou": 1.0, "hd95_mm": 0.0},
            {"id": "b", "label": "liver", "dice": 0.5, "iou": 0.333, "hd95_mm": None},
            {"id": "a", "label": "all", "pixel_accuracy": 1.0, "miou": 1.0},
        ],
        "summary": {
            "liver": {"dice": dice},
            "mean": {"dice": dice},
            "overall": {"pixel_accuracy": 0.98765, "miou": 0.9},
        },
        "missing": ["b"],
        "notes": ["look here"],
        "comparison": {"cases": 2, "labels": {"liver": {"dice": moved}}},
    }


def test_segment_report_tells_every_case() -> None:
    text = segment_report(MANIFEST, {"ct-1": PNG})
    assert_harmless(text)
    for fact in ("organs", "1510.24 ml", "0.91", "1.8", "SEG left out", "flag: edge", "a slice is missing", "no image"):
        assert fact in text
    assert 'href="./ct-1/segmentation.nii.gz"' in text
    assert "data:image/png;base64,iVBOR" in text
    assert text.index("ct-2") < text.index("ct-1")  # what needs a person comes first


def test_hostile_manifest_stays_text() -> None:
    text = segment_report(poisoned(copy.deepcopy(MANIFEST)), {HOSTILE: PNG})
    assert_harmless(text)
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize(
    "path", ["javascript:alert(1)", "//evil.example/x", "\\\\evil\\x", "/etc/passwd", "../../x", "a/../../b"]
)
def test_links_stay_in_the_folder(path: str) -> None:
    text = segment_report({"cases": [{"id": "a", "status": "done", "outputs": {"nifti": path}}]}, {})
    links = Tags(text).links
    assert len(links) == 1
    assert links[0].startswith("./")
    assert not {"", ".."} & set(links[0].split("/"))


def test_evaluation_report_shows_labels_worst_cases_and_comparison() -> None:
    text = evaluation_report(document(), {"b": PNG})
    assert_harmless(text)
    for fact in ("0.750", "0.500 to 1.000", "0.9877", "counted as zero: b", "look here", "+0.100", "p = 0.02"):
        assert fact in text
    lowest = text[text.index("Lowest Dice") :]
    assert lowest.index(">b<") < lowest.index(">a<")
    assert_harmless(evaluation_report(poisoned(document()), {}))


def test_empty_documents_make_pages() -> None:
    for text in (evaluation_report({}), segment_report({}, {}), training_report({"fold_0": []})):
        assert_harmless(text)


def test_training_report_draws_what_the_log_holds() -> None:
    rows = [
        {"epoch": str(n), "train_loss": str(1 / n), "dice_mean": "" if n % 2 else "0.8", "lr": 0.1}
        for n in range(1, 30)
    ]
    text = training_report(
        {"fold_0": rows}, facts={"data set": HOSTILE}, metrics={"fold_0": document()}, plan_text=HOSTILE
    )
    assert_harmless(text)
    assert text.count("<polyline") == 3
    for fact in ("Loss", "Validation Dice", "Learning rate", "0.750", "The last 15 of 29 epochs"):
        assert fact in text


def test_curves_of_labels_carry_their_names_and_the_mean_is_thicker() -> None:
    rows = [{"epoch": n, "loss": 1 / n, "dice": 0.5, "dice_liver": 0.6, "dice_glossal_lr": 0.4} for n in (1, 2, 3)]
    text = training_report({"fold_0": rows})
    loss, dice = text[text.index("Loss") : text.index("Validation Dice")], text[text.index("Validation Dice") :]
    assert loss.count("<polyline") == 1  # a label called after a loss stays with the Dice
    plot = dice[: dice.index("</svg>")]
    assert re.findall(r"<rect.*?</rect><text[^>]*>([^<]*)<", plot) == ["mean", "liver", "glossal_lr"]
    assert re.findall(r'stroke-width="(\d)"', plot) == ["2", "2", "3"]
    assert "Learning rate" not in text


def test_no_curve_is_lost_where_a_label_has_the_mean_s_name() -> None:
    rows = [{"epoch": n, "dice": 0.5, "dice_mean": 0.6} for n in (1, 2)]
    text = training_report({"fold_0": rows})
    assert text.count("<polyline") == 2
    assert re.findall(r"<rect.*?</rect><text[^>]*>([^<]*)<", text) == ["dice", "mean"]


def test_cases_without_a_surface_are_counted_where_there_are_any() -> None:
    table = document()
    table["summary"]["liver"]["hd95_mm"] = {"mean": 1.0, "n": 2, "undefined": 0}
    assert "no surface" not in evaluation_report(table)
    table["summary"]["liver"]["hd95_mm"]["undefined"] = 7
    text = evaluation_report(table)
    assert "no surface" in text
    assert '<td class="n">7</td></tr>' in text


def test_elements_escape_all_but_html() -> None:
    assert element("p", "<b>", Html("<i></i>"), title='"') == '<p title="&quot;">&lt;b&gt;<i></i></p>'
    assert (number(True), number("1"), number(2)) == (None, None, "2.000")

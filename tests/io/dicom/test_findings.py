from __future__ import annotations

import pytest

from medseg.io.dicom.findings import RULES, finding, status_of

CONTRACT = {
    "missing-slice",
    "uneven-spacing",
    "gantry-tilt",
    "oblique",
    "duplicate-instance",
    "duplicate-position",
    "mixed-orientation",
    "mixed-size",
    "mixed-type",
    "several-acquisitions",
    "four-d",
    "non-finite",
    "localizer",
    "mosaic",
    "no-geometry",
    "single-slice",
    "two-dimensional",
    "colour",
    "no-pixel-data",
    "truncated",
    "undecodable",
    "not-dicom",
    "empty-uid",
    "derived-object",
    "modality-lut",
}


def test_the_codes_of_the_contract_are_there():
    assert set(RULES) >= CONTRACT


def test_whatever_is_not_ok_says_what_to_do():
    assert [code for code, rule in RULES.items() if rule.effect != "ok" and not rule.remedy] == []


def test_an_unknown_code_is_refused():
    with pytest.raises(KeyError):
        finding("something-new", "x")


def test_weight_follows_the_effect():
    assert finding("no-geometry", "x").severity == "error"
    assert finding("no-geometry", "x", effect="ok").severity == "warning"
    assert finding("no-pixel-data", "x", effect="ignored").severity == "note"


@pytest.mark.parametrize(
    ("codes", "status"),
    [
        ([], "ok"),
        (["oblique", "gantry-tilt"], "ok"),
        (["oblique", "four-d"], "repairable"),
        (["four-d", "truncated"], "refused"),
        (["truncated", "localizer"], "ignored"),
    ],
)
def test_the_gravest_finding_decides(codes, status):
    assert status_of(finding(code, "x") for code in codes) == status

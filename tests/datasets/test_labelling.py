"""Labels of data sets that name none."""

from __future__ import annotations

import unicodedata

from medseg.datasets.labelling import rules_by_names


def test_one_name_is_one_label_however_its_letters_are_stored() -> None:
    names = [unicodedata.normalize(form, "größe é") for form in ("NFC", "NFD")]
    rules = rules_by_names(names)
    assert rules.labels.ids == (1,)
    assert [rule for _, rule in rules.assign(names).taken] == [0, 0]

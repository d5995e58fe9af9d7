from __future__ import annotations

import pytest
from pydicom.uid import UID

from medseg.io.dicom.identity import Identity
from medseg.labels import Label, LabelSet

LABELS = LabelSet((Label(2, "liver", (1, 2, 3)), Label(7, "n" * 80, (1, 2, 4))))
UIDS = ("seg_series", "seg_instance", "rtstruct_series", "rtstruct_instance", "sr_series", "sr_instance")


def test_all_uids_are_valid_and_differ():
    one, other = Identity.new(LABELS), Identity.new(LABELS)
    uids = [getattr(i, name) for i in (one, other) for name in UIDS]
    uids += [tracking.uid for i in (one, other) for tracking in i.tracking.values()]
    assert len(set(uids)) == len(uids) == 16
    assert all(UID(uid).is_valid for uid in uids)


def test_structures_are_named_by_their_labels_as_far_as_dicom_holds_names():
    tracking = Identity.new(LABELS).tracking
    assert set(tracking) == {2, 7}
    assert tracking[2].id == "liver"
    assert len(tracking[7].id) == 64


def test_the_name_of_a_structure_is_one_that_dicom_holds():
    identity = Identity.new(LabelSet((Label(1, "left\\right\tlobe", (1, 2, 3)),)))
    assert identity.tracking[1].id == "left right lobe"


def test_nobody_changes_it_later():
    identity = Identity.new(LABELS)
    assert identity.moment.tzinfo is not None
    with pytest.raises(TypeError):
        identity.tracking[2] = identity.tracking[7]

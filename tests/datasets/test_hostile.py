"""Documents from strangers: whatever they hold, the answer is a data set or a sentence."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.datasets import check_dataset, open_dataset
from medseg.errors import MedsegError

SCALARS = st.none() | st.booleans() | st.integers(-3, 70000) | st.floats() | st.text(max_size=8)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)
PATHS = (
    st.sampled_from(["./imagesTr/a.nii.gz", "../x.nii.gz", "/x", "", ".", "labelsTr", "a\0b", "x" * 5000]) | ANYTHING
)
ROWS = st.dictionaries(
    st.sampled_from(["image", "images", "label", "id", "group"]), PATHS | st.lists(PATHS, max_size=2)
)
LABELS = st.dictionaries(st.sampled_from(["0", "1", "2", "a", "background", "99999999", "²"]), ANYTHING, max_size=3)
DOCUMENTS = ANYTHING | st.fixed_dictionaries(
    {},
    optional={
        "training": ANYTHING | st.lists(ROWS | ANYTHING, max_size=2),
        "dataset": ANYTHING | st.dictionaries(st.text(max_size=5), ROWS, max_size=2),
        "labels": ANYTHING | LABELS,
        "modality": ANYTHING | st.dictionaries(st.sampled_from(["0", "1", "²", "x"]), ANYTHING, max_size=2),
        "channel_names": ANYTHING,
        "file_ending": ANYTHING,
        "name": ANYTHING,
    },
)


@settings(max_examples=300, deadline=None)
@given(
    DOCUMENTS, st.none() | ANYTHING | st.lists(st.fixed_dictionaries({"val": st.lists(PATHS, max_size=2)}), max_size=2)
)
def test_no_document_ends_in_anything_but_a_sentence(document: object, splits: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("imagesTr/a.nii.gz", "labelsTr/a.nii.gz"):
            (root / name).parent.mkdir()
            (root / name).write_bytes(b"")
        (root / "dataset.json").write_text(json.dumps(document))
        if splits is not None:
            (root / "splits_final.json").write_text(json.dumps(splits))
        for verb in (open_dataset, check_dataset):
            with contextlib.suppress(MedsegError):
                verb(root)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda b: b.decode("latin-1")))
def test_no_table_ends_in_anything_but_a_sentence(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set.csv"
        path.write_text("id,image,label\n" + text, encoding="utf-8", errors="surrogatepass")
        with contextlib.suppress(MedsegError):
            check_dataset(path)


@settings(max_examples=150, deadline=None)
@given(ANYTHING | LABELS)
def test_no_label_file_ends_in_anything_but_a_sentence(document: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("images", "masks"):
            (root / name).mkdir()
        (root / "labels.json").write_text(json.dumps(document))
        with contextlib.suppress(MedsegError):
            check_dataset(root)

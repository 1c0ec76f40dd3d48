"""Interaction tables beside the cases of tests/datasets/test_mmrec.py."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from pyg_mmrec.datasets import MMRecDataset
from pyg_mmrec.transforms import LabelSplit
from pyg_mmrec.typing import INTERACTS

HEAD, LABELLED = "userID\titemID\n", "userID\titemID\tx_label\n"

REFUSED: dict[str, tuple[str | bytes, str]] = {
    "NaN user": (f"{HEAD}0\t1\nnan\t1\n", "toy.inter line 3: column 'userID' has 'nan' but must be a whole number"),
    "NA item": (f"{HEAD}0\tNA\n", "toy.inter line 2: column 'itemID' has 'NA' but must be a whole number"),
    "infinite user": (f"{HEAD}inf\t1\n", "line 2: column 'userID' has 'inf'"),
    "scientific user": (f"{HEAD}1e3\t1\n", "line 2: column 'userID' has '1e3'"),
    "item just beyond int64": (f"{HEAD}0\t{2**63}\n", f"line 2: column 'itemID' has '{2**63}'"),
    "hexadecimal user": (f"{HEAD}0x1\t1\n", "line 2: column 'userID' has '0x1'"),
    "bool user": (f"{HEAD}True\t1\n", "line 2: column 'userID' has 'True'"),
    "typographic minus": (f"{HEAD}\u22121\t1\n", "line 2: column 'userID' has '\u22121'"),
    "NUL in a row": (f"{HEAD}0\t1\n\x00\t2\n", "line 3: column 'userID'"),
    "compressed": (gzip.compress(HEAD.encode()), "toy.inter is not a text table"),
    "column twice": ("userID\titemID\tuserID\n0\t1\t2\n", "line 1: userID and userID can both be the user column"),
    "quoted ids": (f'{HEAD}"0"\t"1"\n', "line 2: column 'userID' has '\"0\"'"),
    "thousands": ("userID;itemID\n1,000;2\n", "is the row separated by ',' and the header by ';'?"),
    "rows by tab": ("userID,itemID\n0\t1\n", r"is the row separated by '\t' and the header by ','?"),
    "header by space": ("userID itemID\n0\t1\n", r"is the row separated by '\t' and the header by ' '?"),
    "negative label": (f"{LABELLED}0\t1\t-1\n", "column 'x_label' has '-1' but must be 0 (train), 1 (validation)"),
    "NaN label": (f"{LABELLED}0\t1\tnan\n", "line 2: column 'x_label' has 'nan'"),
    "decimal label": (f"{LABELLED}0\t1\t0.0\n", "line 2: column 'x_label' has '0.0'"),
    "header without end": ("userID\titemID", "toy.inter has a header but no rows; add the interactions below it"),
}


def only_table(folder: Path, content: str | bytes) -> None:
    for path in folder.iterdir():
        path.unlink()
    (folder / "toy.inter").write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_table_is_refused_in_one_line(toy: Path, case: str) -> None:
    content, message = REFUSED[case]
    only_table(toy, content)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        MMRecDataset(toy.parent, "toy")
    assert message in str(caught.value)
    assert str(toy / "toy.inter") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in toy.iterdir()] == ["toy.inter"]


NOTED = {
    "gap in the users": (f"{HEAD}0\t0\n5\t1\n", "toy.inter: 4 of 6 users (ids 0..5) have no interaction"),
    "ids from 1": (f"{HEAD}1\t0\n2\t1\n", "toy.inter: 1 of 3 users (ids 0..2) have no interaction"),
    "gap in the items": (f"{HEAD}0\t0\n1\t9\n", "toy.inter: 8 of 10 items (ids 0..9) have no interaction"),
    "huge gap": (f"{HEAD}0\t0\n1\t2000000000\n", "1999999999 of 2000000001 items"),
    "pair twice": (f"{HEAD}0\t0\n0\t0\n0\t0\n0\t1\n", "toy.inter: 2 of 4 rows repeat a user-item pair and are dropped"),
    "pair in train and test": (
        f"{LABELLED}0\t1\t2\n0\t1\t0\n0\t2\t1\n0\t3\t2\n",
        "toy.inter: 1 user-item pairs are in more than one of train, validation and test; each stays in the first",
    ),
}


@pytest.mark.parametrize("case", NOTED)
def test_what_is_odd_about_a_table_is_counted(toy: Path, case: str) -> None:
    content, message = NOTED[case]
    only_table(toy, content)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        MMRecDataset(toy.parent, "toy")
    assert [str(note.message) for note in record if message in str(note.message)]


def test_items_without_interactions_are_not_noted_beside_features(toy: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (toy / "toy.inter").write_text(f"{HEAD}0\t0\n1\t3\n")
        assert MMRecDataset(toy.parent, "toy")[0]["item"].num_nodes == 4


def test_a_pair_in_train_and_test_is_trained_and_never_tested(toy: Path) -> None:
    only_table(toy, f"{LABELLED}0\t1\t2\n0\t1\t0\n0\t2\t1\n0\t3\t2\n")
    with pytest.warns(UserWarning, match="1 of 4 rows repeat"):
        data = MMRecDataset(toy.parent, "toy")[0]
    train, _, test = LabelSplit()(data)
    assert train[INTERACTS].edge_index.tolist() == [[0], [1]]
    assert test[INTERACTS].edge_label_index.tolist() == [[0], [3]]


@pytest.mark.parametrize("name", ["toy.inter", "image_feat.npy", "image_knn2.npz"])
def test_a_link_to_nothing(toy: Path, name: str) -> None:
    (toy / name).unlink()
    (toy / name).symlink_to("nowhere")
    with pytest.raises(ValueError, match=rf"{name} cannot be read \(No such file or directory\)"):
        MMRecDataset(toy.parent, "toy")


@pytest.mark.parametrize("name", ["toy.inter", "image_feat.npy", "image_knn2.npz"])
def test_a_file_without_permission_to_read(toy: Path, name: str) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    (toy / name).chmod(0)
    with pytest.raises(ValueError, match=rf"{name} cannot be read \(Permission denied\); check .* its permissions"):
        MMRecDataset(toy.parent, "toy")


def test_a_folder_without_permission_to_read(toy: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read every folder")
    toy.chmod(0)
    try:
        with pytest.raises(ValueError, match=r"toy cannot be read \(Permission denied\)"):
            MMRecDataset(toy.parent, "toy")
    finally:
        toy.chmod(0o755)


def test_a_refusal_comes_before_the_features_are_read(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("the features were read")

    (toy / "toy.inter").write_text(f"{HEAD}0\tx\n")
    monkeypatch.setattr(sys.modules[MMRecDataset.__module__], "read_features", read)
    with pytest.raises(ValueError, match="line 2"):
        MMRecDataset(toy.parent, "toy")


def test_the_whole_message_is_one_line_for_a_shell_too(toy: Path) -> None:
    (toy / "toy.inter").write_text(f"{HEAD}0\tx\n")
    flags = ["datasets", "--dataset", "MMRecDataset", "--dataset.root", str(toy.parent), "--dataset.name", "toy"]
    done = subprocess.run([sys.executable, "-m", "pyg_mmrec.cli", *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "toy.inter line 2: column 'itemID' has 'x'" in done.stderr

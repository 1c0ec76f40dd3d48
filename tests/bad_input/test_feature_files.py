"""Feature files beside the cases of tests/datasets/test_mmrec.py."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pyg_mmrec.datasets import MMRecDataset

REFUSED = {
    "a number": (np.float32(3), "must have the shape [items, channels] (got [])"),
    "dates": (np.zeros((4, 3), "M8[s]"), "has the dtype datetime64[s], which is not a real number"),
    "structured": (np.zeros(4, [("a", "f4")]), "which is not a real number"),
    "a row too few": (np.ones((3, 2)), "text_feat.npy has 4 rows but image_feat.npy has 3; both need one row per item"),
    "a row too many": (np.ones((5, 2)), "text_feat.npy has 4 rows but image_feat.npy has 5"),
    "only zeros": (np.zeros((4, 2)), "has no usable row (0 rows with NaN or infinite values, 4 rows of zeros)"),
    "only infinity": (np.full((4, 2), np.inf), "has no usable row (4 rows with NaN or infinite values"),
    "no rows": (np.ones((0, 2)), "must have the shape [items, channels] (got [0, 2])"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_features_are_refused_in_one_line(toy: Path, refusal: Callable[[], str], case: str) -> None:
    array, message = REFUSED[case]
    np.save(toy / "image_feat.npy", array)
    line = refusal()
    assert message in line
    assert "image_feat.npy" in line


GOOD = np.arange(1.0, 13.0).reshape(4, 3)
BAD_ROW = {
    "NaN": (np.nan, "1 rows with NaN"),
    "infinity": (-np.inf, "1 rows with NaN"),
    "zeros": (0, "1 rows of zeros"),
}


@pytest.mark.parametrize("case", BAD_ROW)
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt"])
def test_a_bad_row_is_masked_and_counted(toy: Path, case: str, suffix: str) -> None:
    value, count = BAD_ROW[case]
    features = GOOD.copy()
    features[2] = value
    (toy / "image_feat.npy").unlink()
    path = toy / f"image_feat{suffix}"
    if suffix == ".pt":
        torch.save(torch.from_numpy(features), path)
    else:
        (np.save if suffix == ".npy" else np.savez)(path, features)
    with pytest.warns(UserWarning, match=rf"image_feat{suffix}: 1 of 4 items have no features .*{count}"):
        data = MMRecDataset(toy.parent, "toy")[0]
    assert data["item"].mask_image.tolist() == [True, True, False, True]
    assert data["item"].x_image[2].tolist() == [0, 0, 0]


def test_constant_features_are_named_once(toy: Path) -> None:
    np.save(toy / "image_feat.npy", np.full((4, 3), 7.0))
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        MMRecDataset(toy.parent, "toy")
    assert [str(note.message) for note in record] == [
        "image_feat.npy: all 4 items have the same features, which tell nothing about them"
    ]


def test_a_constant_channel_is_nothing_odd(toy: Path) -> None:
    np.save(toy / "image_feat.npy", np.c_[np.ones(4), np.arange(4)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MMRecDataset(toy.parent, "toy")


def test_a_folder_in_the_place_of_features(toy: Path) -> None:
    (toy / "image_feat.npy").unlink()
    (toy / "image_feat.npy").mkdir()
    with pytest.raises(ValueError, match=r"image_feat.npy cannot be read \(Is a directory\)"):
        MMRecDataset(toy.parent, "toy")

"""Neighbour graphs beside the cases of tests/datasets/test_mmrec.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from pyg_mmrec.datasets import MMRecDataset


def write(folder: Path, indices: list[float], indptr: list[int], shape: tuple[int, int] = (4, 4)) -> None:
    parts: dict[str, Any] = {"indices": np.array(indices), "indptr": np.array(indptr), "shape": np.array(shape)}
    np.savez(folder / "image_knn2.npz", format=b"csr", data=np.ones(len(indices)), **parts)


REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "item 9 of 4": (([0, 1, 2, 9], [0, 1, 2, 3, 4]), "must be < 4"),
    "item -1": (([0, 1, 2, -1], [0, 1, 2, 3, 4]), "must be >= 0"),
    "falling pointers": (([0, 1, 2, 3], [0, 4, 2, 3, 4]), "the row pointers do not fit the entries"),
    "pointers of another size": (([0, 1, 2, 3], [0, 2, 4]), "index pointer size"),
    "negative shape": (([0, 1, 2, 3], [0, 1, 2, 3, 4], (-4, 4)), "cannot be negative"),
    "huge shape": (([0, 1, 2, 3], [0, 1, 2, 3, 4], (2**40, 2**40)), "index pointer size"),
    "three items of four": (([0, 1, 2], [0, 1, 2, 3], (3, 3)), "image_knn2.npz has 3 rows but image_feat.npy has 4"),
    "five items of four": (([0], [0, 1, 1, 1, 1, 1], (5, 5)), "image_knn2.npz has 5 rows but image_feat.npy has 4"),
    "not square": (([0], [0, 1, 1, 1, 1], (4, 5)), "must be square"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_graph_is_refused_in_one_line(toy: Path, refusal: Callable[[], str], case: str) -> None:
    arguments, message = REFUSED[case]
    write(toy, *arguments)
    line = refusal()
    assert message in line
    assert "image_knn2.npz" in line


def test_a_dense_array_is_no_graph(toy: Path) -> None:
    with (toy / "image_knn2.npz").open("wb") as file:
        np.save(file, np.eye(4))
    with pytest.raises(ValueError, match=r"image_knn2.npz is truncated or not a valid .npz file"):
        MMRecDataset(toy.parent, "toy")


def test_items_without_neighbours_are_counted(toy: Path) -> None:
    sp.save_npz(toy / "image_knn2.npz", sp.csr_matrix(np.diag([1.0, 0.0, 1.0, 0.0])))
    with pytest.warns(UserWarning, match=r"^image_knn2.npz: 2 of 4 items have no neighbour$"):
        MMRecDataset(toy.parent, "toy")


def test_a_graph_of_a_k_that_is_not_there_by_flag(toy: Path) -> None:
    with pytest.raises(ValueError, match=r"has no image_knn7.npz but image_knn2.npz; change num_neighbors$"):
        MMRecDataset(toy.parent, "toy", num_neighbors=7)

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from pyg_mmrec.utils.hashing import file_digest, tensor_hash


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1])
def test_digest_of_a_file_longer_than_a_block(tmp_path: Path, size: int) -> None:
    content = bytes(7 * i % 251 for i in range(size))
    (tmp_path / "file").write_bytes(content)
    assert file_digest(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing cannot be read \(No such file or directory\)"):
        file_digest(tmp_path / "nothing")


def test_tensors_are_told_apart_by_value_order_and_absence() -> None:
    one, two = torch.tensor([1.0]), torch.tensor([2.0])
    hashes = [tensor_hash(one, two), tensor_hash(two, one), tensor_hash(one, None, two), tensor_hash(one)]
    assert len(set(hashes)) == 4
    assert tensor_hash(one.clone(), two) == hashes[0]

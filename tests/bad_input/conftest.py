from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.benchmark import prepare
from pyg_mmrec.datasets import MMRecDataset
from pyg_mmrec.models import DRepMRec, DualGNN
from pyg_mmrec.transforms import ModalKNNGraph, RandomSplit
from pyg_mmrec.typing import INTERACTS

Views = tuple[HeteroData, HeteroData, HeteroData]


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A good data set ``toy`` below ``tmp_path``: two users, four items, two modalities, one neighbour graph."""
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "toy.inter").write_text("userID\titemID\tx_label\n0\t0\t0\n0\t1\t1\n0\t2\t2\n1\t2\t0\n1\t3\t0\n")
    generator = np.random.default_rng(0)
    for name, channels in (("image", 3), ("text", 2)):
        np.save(folder / f"{name}_feat.npy", generator.normal(size=(4, channels)))
    sp.save_npz(folder / "image_knn2.npz", sp.eye(4, format="csr"))
    return folder


@pytest.fixture
def refusal(toy: Path) -> Callable[[], str]:
    """Reads ``toy``, which must be refused in one line and leave no cache; returns that line."""

    def read() -> str:
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            MMRecDataset(toy.parent, "toy")
        assert "\n" not in str(caught.value)
        assert not (toy / "processed").exists()
        return str(caught.value)

    return read


@pytest.fixture
def whole() -> HeteroData:
    """12 users, 10 items, two modalities with their item graphs."""
    generator = torch.Generator().manual_seed(0)
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 12, 10
    data[INTERACTS].edge_index = (torch.rand(12, 10, generator=generator) < 0.5).nonzero().t().contiguous()
    for name, channels in (("image", 6), ("text", 4)):
        data["item"][f"x_{name}"] = torch.randn(10, channels, generator=generator)
    return ModalKNNGraph(k=3)(data)


@pytest.fixture
def views(whole: HeteroData) -> Views:
    """Train, validation and test view of ``whole``."""
    made: Views = prepare(whole, [DRepMRec, DualGNN], RandomSplit(), ModalKNNGraph(k=3))
    return made

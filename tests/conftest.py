from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.cli import main
from pyg_mmrec.typing import INTERACTS, similar

NUM_USERS, NUM_ITEMS, NUM_BLOCKS = 40, 30, 4


def _draw_interactions(generator: torch.Generator) -> list[Tensor]:
    """Train, validation and test edges: every user keeps to the items of one block, but for one train item."""
    item_block = torch.arange(NUM_ITEMS) % NUM_BLOCKS
    parts: list[list[Tensor]] = [[], [], []]
    for user in range(NUM_USERS):
        own = (item_block == user % NUM_BLOCKS).nonzero().flatten()
        other = (item_block != user % NUM_BLOCKS).nonzero().flatten()
        own = own[torch.randperm(own.numel(), generator=generator)]
        stray = other[torch.randint(other.numel(), (1,), generator=generator)]
        for part, item in zip(parts, (torch.cat([own[:4], stray]).sort().values, own[4:5], own[5:6]), strict=True):
            part.append(torch.stack([torch.full_like(item, user), item]))
    return [torch.cat(part, dim=1) for part in parts]


def _draw_features(channels: int, generator: torch.Generator) -> Tensor:
    """One random centre a block plus noise."""
    centre = torch.randn(NUM_BLOCKS, channels, generator=generator)
    return centre[torch.arange(NUM_ITEMS) % NUM_BLOCKS] + 0.5 * torch.randn(NUM_ITEMS, channels, generator=generator)


def _knn_graph(x: Tensor, k: int = 5) -> tuple[Tensor, Tensor]:
    """Edges from each item's k nearest others by cosine to the item, weighted 1 / k."""
    x = torch.nn.functional.normalize(x, dim=1)
    neighbor = (x @ x.t()).fill_diagonal_(-torch.inf).topk(k).indices
    centre = torch.arange(NUM_ITEMS).repeat_interleave(k)
    return torch.stack([neighbor.flatten(), centre]), torch.full((NUM_ITEMS * k,), 1 / k)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test draws the same numbers at every run, in whatever order tests run."""
    torch.manual_seed(0)


@pytest.fixture
def tiny_split() -> tuple[HeteroData, HeteroData, HeteroData]:
    """Train, validation and test views of 40 users and 30 items in four blocks, two modalities that follow them."""
    generator = torch.Generator().manual_seed(0)
    train, val, test = _draw_interactions(generator)
    data = HeteroData()
    data["user"].num_nodes = NUM_USERS
    data["item"].num_nodes = NUM_ITEMS
    data[INTERACTS].edge_index = train
    data["user"].seen_ptr = torch.arange(NUM_USERS + 1) * (train.size(1) // NUM_USERS)
    data["user"].seen_item = train[1].clone()
    for modality, channels in (("image", 12), ("text", 8)):
        x = _draw_features(channels, generator)
        data["item"][f"x_{modality}"] = x
        graph = data[similar("item", modality)]
        graph.edge_index, graph.edge_weight = _knn_graph(x)
    views = (data, copy.copy(data), copy.copy(data))
    for view, edges in zip(views, (train, val, test), strict=True):
        view[INTERACTS].edge_label_index = edges
    return views


@pytest.fixture
def tiny_data(tiny_split: tuple[HeteroData, HeteroData, HeteroData]) -> HeteroData:
    """The train view of ``tiny_split``."""
    return tiny_split[0]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real data sets."""
    folder = os.environ.get("PYG_MMREC_DATA")
    if not folder:
        pytest.skip("PYG_MMREC_DATA is not set to the folder of the real data sets")
    if not Path(folder).is_dir():
        pytest.fail(f"PYG_MMREC_DATA names {folder}, which is not a folder")
    return Path(folder)


@pytest.fixture
def failure(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must fail with status 2 and one line on standard error; returns that line."""

    def call(*argv: str | Path) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(token) for token in argv])
        assert ended.value.code == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("pyg-mmrec: error: ")
        assert printed.err.count("\n") == 1
        return printed.err.removeprefix("pyg-mmrec: error: ").rstrip()

    return call

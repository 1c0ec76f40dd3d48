from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from fastapi.testclient import TestClient
from torch_geometric.data import HeteroData

from pyg_mmrec.models import BPRMF, ModelCard
from pyg_mmrec.retrieval import Retriever
from pyg_mmrec.serve import Catalogue, create_app
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import Ids


@pytest.fixture
def shop(tiny_data: HeteroData) -> HeteroData:
    """40 users, 30 items with pictures, which item 3 lacks, times and words."""
    generator = torch.Generator().manual_seed(0)
    tiny_data["item"].image = torch.randint(256, (30, 3, 8, 8), generator=generator, dtype=torch.uint8)
    tiny_data["item"].mask_image = torch.arange(30) != 3
    tiny_data[INTERACTS].time = torch.arange(200)
    tiny_data["item"].tokens = torch.tensor([[1, 2, 0]]).repeat(30, 1)
    tiny_data["word"].text, tiny_data["word"].num_nodes = ["", "red", "cup"], 3
    return tiny_data


@pytest.fixture
def catalogue(shop: HeteroData) -> Catalogue:
    """Users u/0 .. u/39 and items 100 .. 129."""
    torch.manual_seed(0)
    ids = Ids([f"u/{n}" for n in range(40)], list(range(100, 130)))
    card = ModelCard(data={"dataset": "toy"}, metrics={"test_recall@20": 0.5}, licence="mit")
    return Catalogue(Retriever(BPRMF.from_data(shop), shop, ids), card)


@pytest.fixture
def client(catalogue: Catalogue) -> Iterator[TestClient]:
    with TestClient(create_app(catalogue, max_k=20, max_users=5, max_body=2000)) as made:
        yield made

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import BPRMF, MDR, MMIL, LightGCN, Recommender, WideDeep, WithSEA
from pyg_mmrec.retrieval import Retriever
from pyg_mmrec.utils import Ids

MODELS = {
    "BPRMF": (BPRMF, {}),
    "LightGCN": (LightGCN, {}),
    "WideDeep": (WideDeep, {"mlp_channels": 8, "num_layers": 2}),
    "MMIL": (MMIL, {"head": "mlp"}),
    "WithSEA": (WithSEA, {"base": "VBPR", "base_args": {"hidden_channels": 4}}),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_it_gives_what_recommend_gives(tiny_data: HeteroData, name: str, exclude_seen: bool) -> None:
    cls, arguments = MODELS[name]
    model: Recommender = cls.from_data(tiny_data, **arguments)
    retriever = Retriever(model, tiny_data, block_size=7)
    user = torch.tensor([3, 39, 0, 3, 20, 21, 22, 23])
    expected = model.recommend(tiny_data, user, k=30, exclude_seen=exclude_seen)
    scores, items = retriever(user, 30, exclude_seen)
    assert torch.allclose(scores, expected[0])
    assert torch.equal(items, expected[1])
    assert model.training  # as it was


@pytest.mark.parametrize("name", MODELS)
def test_vectors_are_there_where_scores_are_their_products(tiny_data: HeteroData, name: str) -> None:
    cls, arguments = MODELS[name]
    model = cls.from_data(tiny_data, **arguments)
    retriever = Retriever(model, tiny_data)
    if name in ("WideDeep", "MMIL"):
        assert retriever.vectors is None
        return
    user, item = retriever.vectors
    scores = model.score(retriever.data, retriever.representations, torch.arange(40))
    assert torch.allclose(user @ item.t(), scores, atol=1e-6)


def test_users_without_vectors(tiny_data: HeteroData) -> None:
    model = MDR.from_data(tiny_data)
    retriever = Retriever(model, tiny_data)
    assert retriever.vectors is None
    assert torch.equal(retriever(torch.tensor([4]), 5)[1], model.recommend(tiny_data, torch.tensor([4]), 5)[1])


def test_no_user(tiny_data: HeteroData) -> None:
    scores, items = Retriever(BPRMF.from_data(tiny_data), tiny_data)(torch.tensor([], dtype=torch.long), 3)
    assert scores.shape == items.shape == (0, 3)


def test_bad_arguments(tiny_data: HeteroData) -> None:
    model = BPRMF.from_data(tiny_data)
    retriever = Retriever(model, tiny_data)
    with pytest.raises(ValueError, match=r"'k' must lie in 1..30, the number of items \(got 31\)"):
        retriever(torch.tensor([0]), 31)
    with pytest.raises(ValueError, match=r"'user' must lie in 0..39 \(got 3..40\)"):
        retriever(torch.tensor([3, 40]), 3)
    with pytest.raises(ValueError, match="'ids' names 1 users and 2 items but the data has 40 and 30"):
        Retriever(model, tiny_data, Ids(["a"], ["b", "c"]))
    with pytest.raises(ValueError, match="was built for 2"):
        Retriever(BPRMF(2, 3), tiny_data)
    with pytest.raises(ValueError, match="'block_size' must be positive"):
        Retriever(model, tiny_data, block_size=0)


def test_scores_that_are_nan(tiny_data: HeteroData) -> None:
    model = BPRMF.from_data(tiny_data)
    torch.nn.init.constant_(model.user_emb.weight, torch.nan)
    with pytest.raises(ValueError, match="the scores of user 5 are NaN"):
        Retriever(model, tiny_data)(torch.tensor([5]), 3)

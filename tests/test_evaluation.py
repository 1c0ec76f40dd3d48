from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.loader import TripletLoader
from pyg_mmrec.models import LightGCN, Popularity
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import rank_items, seen_items


class Table(torch.nn.Module):
    """Scores from a matrix."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores
        self.modes: list[bool] = []
        self.blocks: list[int] = []

    def forward(self, data: HeteroData) -> None:
        self.modes.append(self.training)

    def score(self, data: HeteroData, representations: None, user: Tensor, item: Tensor | None = None) -> Tensor:
        self.blocks.append(user.numel())
        return self.scores[user] if item is None else self.scores[user][:, item]


def make_view(num_items: int, seen: list[set[int]], held_out: list[set[int]]) -> HeteroData:
    """A view of a split with these seen and held-out items of each user."""
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = len(seen), num_items
    pairs = [torch.tensor([(u, i) for u, items in enumerate(sets) for i in sorted(items)]) for sets in (seen, held_out)]
    data[INTERACTS].edge_index = pairs[0].t()
    data[INTERACTS].edge_label_index = pairs[1][torch.randperm(len(pairs[1]))].t()
    data["user"].seen_ptr = torch.tensor([0, *map(len, seen)]).cumsum(0)
    data["user"].seen_item = pairs[0][:, 1]
    return data


def draw_view(seed: int, num_users: int = 30, num_items: int = 12) -> tuple[HeteroData, list[set[int]], list[set[int]]]:
    """Users with any number of seen items, up to all; a third of them without held-out items."""
    generator = torch.Generator().manual_seed(seed)
    seen, held_out = [], []
    for user in range(num_users):
        order = torch.randperm(num_items, generator=generator).tolist()
        cut = int(torch.randint(1, num_items + 1, (1,), generator=generator))
        size = int(torch.randint(1, 4, (1,), generator=generator)) if user % 3 else 0
        seen.append(set(order[:cut]))
        held_out.append(set(order[cut : cut + size]))
    return make_view(num_items, seen, held_out), seen, held_out


def metrics_of(k: int, ranked: list[int], held_out: set[int]) -> dict[str, float]:
    """All accuracy metrics of one user, from the protocol's definitions."""
    hits = [item in held_out for item in ranked[:k]]
    best = min(k, len(held_out))
    ideal = sum(1 / math.log2(rank + 2) for rank in range(best))
    return {
        f"recall@{k}": sum(hits) / len(held_out),
        f"precision@{k}": sum(hits) / k,
        f"ndcg@{k}": sum(hit / math.log2(rank + 2) for rank, hit in enumerate(hits)) / ideal,
        f"map@{k}": sum(hit * sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(hits)) / best,
        f"hit@{k}": float(any(hits)),
        f"mrr@{k}": max((hit / (rank + 1) for rank, hit in enumerate(hits)), default=0.0),
    }


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


@pytest.mark.parametrize("block_size", [1, 7, 1024])
@pytest.mark.parametrize("seed", range(4))
def test_metrics_equal_an_independent_implementation(seed: int, block_size: int) -> None:
    view, seen, held_out = draw_view(seed)
    scores = torch.randn(30, 12, generator=torch.Generator().manual_seed(seed))
    names = [f"{kind}@{k}" for k in (1, 3, 10, 12) for kind in ("recall", "precision", "ndcg", "map", "hit", "mrr")]
    rows: dict[int, list[dict[str, float]]] = {k: [] for k in (1, 3, 10, 12)}
    for user in range(30):
        if held_out[user]:
            left = sorted(set(range(12)) - seen[user], key=lambda item: -float(scores[user, item]))
            for k, found in rows.items():
                found.append(metrics_of(k, left, held_out[user]))
    expected = {name: value for found in rows.values() for name, value in mean(found).items()}
    out = Evaluator(names, block_size=block_size)(Table(scores), view)
    assert list(out) == names
    assert out == pytest.approx(expected, abs=1e-6)
    assert all(isinstance(value, float) for value in out.values())


@pytest.mark.parametrize("seed", range(4))
def test_metrics_with_ties(seed: int) -> None:
    view, seen, held_out = draw_view(seed)
    scores = torch.randint(0, 3, (30, 12), generator=torch.Generator().manual_seed(seed)).float()
    graded = torch.tensor([user for user in range(30) if held_out[user]])
    generator = torch.Generator().manual_seed(9)
    table = Table(scores)
    ranked = rank_items(
        lambda user, item: table.score(view, None, user, item), graded, 5, 12, seen_items(view), generator=generator
    )[1]
    rows = []
    for user, items in zip(graded.tolist(), ranked.tolist(), strict=True):
        left = [item for item in items if item not in seen[user]]
        values = [float(scores[user, item]) for item in left]
        assert (
            values == sorted((scores[user, i].item() for i in set(range(12)) - seen[user]), reverse=True)[: len(left)]
        )
        rows.append(metrics_of(5, left, held_out[user]))
    expected = mean(rows)
    assert Evaluator(list(expected), seed=9)(table, view) == pytest.approx(expected, abs=1e-6)


def test_constant_scores_rank_near_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = 1 / torch.arange(1, 201.0)  # the catalogue is sorted by popularity
    held_out = [set(torch.multinomial(weight, 3, generator=generator).tolist()) for _ in range(200)]
    view = make_view(200, [{199}] * 200, held_out)
    recall = [
        Evaluator(["recall@20"], seed=seed)(Table(torch.zeros(200, 200)), view)["recall@20"] for seed in range(40)
    ]
    first = sum(len(items & set(range(20))) / 3 for items in held_out) / 200
    assert first > 0.5  # what ties in the catalogue's order would give
    assert 0.06 < sum(recall) / 40 < 0.14  # chance is 0.1
    assert len(set(recall)) > 20


def test_equal_seeds_break_ties_equally() -> None:
    view, _, _ = draw_view(0)
    results = [Evaluator(["ndcg@3"], seed=seed)(Table(torch.zeros(30, 12)), view) for seed in (0, 0, 1)]
    assert results[0] == results[1] != results[2]


def test_evaluation_leaves_the_global_generator_alone() -> None:
    view, _, _ = draw_view(0)
    state = torch.get_rng_state()
    Evaluator(["recall@3"])(Table(torch.zeros(30, 12)), view)
    assert torch.equal(torch.get_rng_state(), state)


def test_only_seen_items_are_left_out() -> None:
    scores = Table(torch.tensor([[4.0, 3.0, 2.0, 1.0]]))
    evaluator = Evaluator(["recall@1", "recall@2"])
    plain, strict = make_view(4, [{0}], [{2}]), make_view(4, [{0, 1}], [{2}])  # item 1 is the validation's
    assert evaluator(scores, plain) == {"recall@1": 0.0, "recall@2": 1.0}
    assert evaluator(scores, strict) == {"recall@1": 1.0, "recall@2": 1.0}


def test_items_that_were_never_seen_are_candidates() -> None:
    view = make_view(4, [{0}, {1}], [{3}, {2}])  # nobody has trained on items 2 and 3
    assert Evaluator(["recall@1"])(Table(torch.tensor([[0.0, 1, 2, 3], [0, 1, 3, 2]])), view) == {"recall@1": 1.0}


def test_negative_scores_count_like_positive_ones() -> None:
    view, _, _ = draw_view(1)
    scores = torch.randn(30, 12, generator=torch.Generator().manual_seed(1))
    evaluator = Evaluator(["recall@3", "ndcg@3"])
    assert evaluator(Table(scores), view) == evaluator(Table(scores - 1e3), view)


@pytest.mark.parametrize("training", [False, True])
def test_the_mode_stays_as_it_was(training: bool) -> None:
    view, _, _ = draw_view(0)
    model = Table(torch.rand(30, 12)).train(training)
    Evaluator(["recall@3"])(model, view)
    assert model.modes == [False]
    assert model.training == training
    model.scores = model.scores * torch.nan
    with pytest.raises(ValueError, match="NaN"):
        Evaluator(["recall@3"])(model, view)
    assert model.training == training


def test_nan_scores() -> None:
    view, _, held_out = draw_view(0)
    user = next(user for user, items in enumerate(held_out) if items)
    scores = torch.rand(30, 12)
    scores[user, next(iter(held_out[user]))] = torch.nan
    with pytest.raises(ValueError, match=rf"^the scores of user {user} are NaN: the model has diverged$"):
        Evaluator(["recall@3"])(Table(scores), view)


def test_users_are_scored_in_blocks() -> None:
    view, _, held_out = draw_view(0)
    graded = sum(map(bool, held_out))
    model = Table(torch.rand(30, 12))
    Evaluator(["recall@3"], block_size=4)(model, view)
    assert sum(model.blocks) == graded
    assert max(model.blocks) == 4


def test_data_and_scores_stay_as_they_were() -> None:
    view, _, _ = draw_view(0)
    before, keys = copy.deepcopy(view), sorted(view[INTERACTS].keys())
    Evaluator(["recall@3"])(Popularity.from_data(view), view)
    assert sorted(view[INTERACTS].keys()) == keys
    assert torch.equal(view[INTERACTS].edge_label_index, before[INTERACTS].edge_label_index)
    assert torch.equal(view["user"].seen_item, before["user"].seen_item)


def test_scores_come_from_the_weights_as_they_are(tiny_split: tuple[HeteroData, HeteroData, HeteroData]) -> None:
    train, val, _ = tiny_split
    torch.manual_seed(0)
    model, evaluator = LightGCN.from_data(train, hidden_channels=16), Evaluator(["ndcg@10"])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    found = [evaluator(model, val)]
    for batch in TripletLoader(train, 64).epoch(0):
        optimizer.zero_grad()
        model.loss(train, batch)["bpr"].backward()
        optimizer.step()
        found.append(evaluator(model, val))
        twin = LightGCN.from_data(train, hidden_channels=16)
        twin.load_state_dict(model.state_dict())
        assert evaluator(twin, val) == found[-1]
    assert len({metrics["ndcg@10"] for metrics in found}) == len(found)


def test_default_metrics() -> None:
    assert Evaluator().metrics[:2] == ("recall@10", "precision@10")
    assert {"recall@20", "ndcg@20", "map@20", "precision@20"} <= set(Evaluator().metrics)
    assert repr(Evaluator(["recall@3", "ndcg@5"])) == "Evaluator(recall@3, ndcg@5)"


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"^unknown metric 'recal@20': did you mean 'recall@20'$"):
        Evaluator(["recal@20"])
    with pytest.raises(ValueError, match=r"^'metrics' must name at least one metric \(got none\)$"):
        Evaluator([])
    with pytest.raises(ValueError, match=r"^'block_size' must be positive \(got 0\)$"):
        Evaluator(block_size=0)


def test_views_without_held_out_items() -> None:
    view = make_view(12, [{0}], [{1}])
    model = Table(torch.rand(1, 12))
    view[INTERACTS].edge_label_index = torch.empty(2, 0, dtype=torch.long)
    with pytest.raises(ValueError, match=r"^the data has no held-out interactions, 'edge_label_index'"):
        Evaluator(["recall@3"])(model, view)
    del view[INTERACTS].edge_label_index
    with pytest.raises(ValueError, match=r"^the data has no held-out interactions, 'edge_label_index'"):
        Evaluator(["recall@3"])(model, view)
    with pytest.raises(ValueError, match=r"^'recall@20' asks for more than the 12 items of the catalogue$"):
        Evaluator(["recall@20"])(model, view)

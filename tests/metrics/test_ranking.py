from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from pyg_mmrec.metrics import parse_metric, ranking_metrics
from pyg_mmrec.typing import INTERACTS

Drawn = tuple[int, list[list[int]], list[set[int]]]
KINDS = ["recall", "precision", "ndcg", "map", "hit", "mrr"]


def accuracy(kind: str, k: int, ranked: list[int], held_out: set[int]) -> float:
    """A metric of one user by the definitions of the published protocol."""
    hits = [item in held_out for item in ranked[:k]]
    best = min(k, len(held_out))
    if kind == "recall":
        return sum(hits) / len(held_out)
    if kind == "precision":
        return sum(hits) / k
    if kind == "ndcg":
        gain = sum(1 / math.log2(rank + 1) for rank, hit in enumerate(hits, start=1) if hit)
        return gain / sum(1 / math.log2(rank + 1) for rank in range(1, best + 1))
    if kind == "map":
        return sum(sum(hits[:rank]) / rank for rank, hit in enumerate(hits, start=1) if hit) / best
    if kind == "hit":
        return float(any(hits))
    return 1 / (hits.index(True) + 1) if any(hits) else 0.0


def catalogue(num_items: int) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 4, num_items
    data[INTERACTS].edge_index = torch.tensor([[0, 1, 2, 3, 0], [0, 0, 0, 1, 2]])
    return data


@st.composite
def lists(draw: st.DrawFn) -> Drawn:
    """Number of items, ranked lists, and the held-out items of each user."""
    num_items = draw(st.integers(3, 12))
    users = draw(st.integers(1, 5))
    ranked = [draw(st.permutations(range(num_items))) for _ in range(users)]
    held_out = [draw(st.sets(st.integers(0, num_items - 1), min_size=1)) for _ in range(users)]
    return num_items, ranked, held_out


@settings(max_examples=60, deadline=None)
@given(lists(), st.data())
def test_accuracy_equals_the_definitions(
    drawn: tuple[int, list[list[int]], list[set[int]]], data: st.DataObject
) -> None:
    num_items, ranked, held_out = drawn
    cutoffs = data.draw(st.lists(st.integers(1, num_items), min_size=1, max_size=3, unique=True))
    names = [f"{kind}@{k}" for kind in KINDS for k in cutoffs]
    metrics = ranking_metrics(names, catalogue(num_items))
    pairs = torch.tensor([(user, item) for user, items in enumerate(held_out) for item in items]).t()
    metrics.update(torch.tensor(ranked)[:, : max(cutoffs)], (pairs[0], pairs[1]))
    for name, value in metrics.compute().items():
        kind, k = parse_metric(name)
        expected = [accuracy(kind, k, *user) for user in zip(ranked, held_out, strict=True)]
        assert value == pytest.approx(sum(expected) / len(expected), rel=1e-12), name


def test_a_perfect_ranking_scores_one() -> None:
    metrics = ranking_metrics([f"{kind}@2" for kind in KINDS], catalogue(5))
    metrics.update(torch.tensor([[3, 1]]), (torch.tensor([0, 0]), torch.tensor([1, 3])))
    assert metrics.compute() == {f"{kind}@2": 1.0 for kind in KINDS}


def test_users_are_weighted_equally_over_updates() -> None:
    metrics = ranking_metrics(["recall@2"], catalogue(5))
    metrics.update(torch.tensor([[0, 1], [2, 3]]), (torch.tensor([0, 1]), torch.tensor([0, 0])))
    metrics.update(torch.tensor([[0, 1]]), (torch.tensor([0, 0]), torch.tensor([1, 4])))
    assert metrics.compute() == {"recall@2": 0.5}


def test_coverage_popularity_and_diversity() -> None:
    data = catalogue(6)
    data["item"].category = torch.tensor([0, 1, 1, 2, 0, 0])
    ranked = [[0, 1, 2], [0, 4, 5], [1, 0, 3]]
    metrics = ranking_metrics(["coverage@3", "popularity@3", "diversity@3", "coverage@1", "diversity@2"], data)
    metrics.update(torch.tensor(ranked), (torch.tensor([0, 1, 2]), torch.tensor([0, 1, 5])))
    out = metrics.compute()
    popularity, category = [3, 1, 1, 0, 0, 0], data["item"].category.tolist()

    def diversity(items: list[int]) -> float:
        differ = [category[one] != category[two] for one, two in combinations(items, 2)]
        return sum(differ) / len(differ)

    assert out["coverage@3"] == pytest.approx(6 / 6)
    assert out["coverage@1"] == pytest.approx(2 / 6)
    assert out["popularity@3"] == pytest.approx(
        sum(sum(popularity[i] for i in row) / 3 for row in ranked) / 3, rel=1e-12
    )
    assert out["diversity@3"] == pytest.approx(sum(map(diversity, ranked)) / 3, rel=1e-12)
    assert out["diversity@2"] == pytest.approx(sum(diversity(row[:2]) for row in ranked) / 3, rel=1e-12)


@pytest.mark.parametrize("kind", [*KINDS, "coverage", "diversity", "popularity"])
def test_names_are_parsed(kind: str) -> None:
    assert parse_metric(f"{kind}@20") == (kind, 20)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("recal@20", r"^unknown metric 'recal@20': did you mean 'recall@20'$"),
        ("nDCG@5", r"^unknown metric 'nDCG@5': did you mean 'ndcg@5'$"),
        ("popularty@1", r"^unknown metric 'popularty@1': did you mean 'popularity@1'$"),
        ("xyz@5", r"^unknown metric 'xyz@5': known are recall, precision, ndcg, map, hit, mrr, coverage, "),
        ("recall", r"^a metric is written kind@k, such as 'recall@20', with k at least 1 \(got 'recall'\)$"),
        ("recall@0", r"\(got 'recall@0'\)$"),
        ("recall@-1", r"\(got 'recall@-1'\)$"),
        ("recall@2.5", r"\(got 'recall@2.5'\)$"),
        ("recall@20 ", r"\(got 'recall@20 '\)$"),
        ("", r"\(got ''\)$"),
    ],
)
def test_wrong_names(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_metric(name)
    with pytest.raises(ValueError, match=message):
        ranking_metrics([name], catalogue(50))


def test_k_beyond_the_catalogue() -> None:
    with pytest.raises(ValueError, match=r"^'ndcg@6' asks for more than the 5 items of the catalogue$"):
        ranking_metrics(["recall@5", "ndcg@6"], catalogue(5))


def test_diversity_without_categories() -> None:
    with pytest.raises(ValueError, match=r"^'diversity@3' needs item categories"):
        ranking_metrics(["diversity@3"], catalogue(5))

"""The evaluator against the textbooks' definitions in plain Python, and against chance."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import rank_items, seen_items

NUM_USERS, NUM_ITEMS = 60, 25
CUTOFFS = (1, 2, 5, 10, 25)
KINDS = ("recall", "precision", "ndcg", "map", "hit", "mrr", "coverage", "diversity", "popularity")
NAMES = [f"{kind}@{k}" for kind in KINDS for k in CUTOFFS if kind != "diversity" or k > 1]


class Table(torch.nn.Module):
    """Scores from a matrix."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, data: HeteroData) -> None:
        return None

    def score(self, data: HeteroData, representations: None, user: Tensor, item: Tensor | None = None) -> Tensor:
        return self.scores[user] if item is None else self.scores[user][:, item]


class Case(NamedTuple):
    """A catalogue in plain Python."""

    seen: list[set[int]]
    held_out: list[set[int]]
    category: list[int]


def draw_case(seed: int) -> Case:
    """A fifth of the users have nothing to find, a fifth at most three items left, one of them nothing but seen."""
    rng = random.Random(seed)
    seen, held_out = [], []
    for user in range(NUM_USERS):
        order = rng.sample(range(NUM_ITEMS), NUM_ITEMS)
        cut = NUM_ITEMS - rng.randint(1, 3) if user % 5 == 0 else rng.randint(1, 15)
        size = 0 if user % 5 == 1 else rng.randint(1, 8)
        seen.append(set(order[:cut]))
        held_out.append(set(order[cut : cut + size]))
    seen[0], held_out[0] = set(range(NUM_ITEMS)), {3}
    return Case(seen, held_out, [rng.randrange(4) for _ in range(NUM_ITEMS)])


def as_view(case: Case) -> HeteroData:
    view = HeteroData()
    view["user"].num_nodes, view["item"].num_nodes = NUM_USERS, NUM_ITEMS
    for key, sets in (("edge_index", case.seen), ("edge_label_index", case.held_out)):
        view[INTERACTS][key] = torch.tensor([(u, i) for u, items in enumerate(sets) for i in sorted(items)]).t()
    view["item"].category = torch.tensor(case.category)
    return view


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def ndcg(ranked: list[int], wanted: set[int], k: int) -> float:
    gain = math.fsum(1 / math.log2(place + 2) for place, item in enumerate(ranked[:k]) if item in wanted)
    return gain / math.fsum(1 / math.log2(place + 2) for place in range(min(k, len(wanted))))


def average_precision(ranked: list[int], wanted: set[int], k: int) -> float:
    total = 0.0
    for place, item in enumerate(ranked[:k], start=1):
        if item in wanted:
            total += len(wanted & set(ranked[:place])) / place
    return total / min(k, len(wanted))


ACCURACY: dict[str, Callable[[list[int], set[int], int], float]] = {
    "recall": lambda ranked, wanted, k: len(wanted & set(ranked[:k])) / len(wanted),
    "precision": lambda ranked, wanted, k: len(wanted & set(ranked[:k])) / k,
    "ndcg": ndcg,
    "map": average_precision,
    "hit": lambda ranked, wanted, k: float(bool(wanted & set(ranked[:k]))),
    "mrr": lambda ranked, wanted, k: next((1 / (p + 1) for p, i in enumerate(ranked[:k]) if i in wanted), 0.0),
}


def expected(case: Case, ranked: dict[int, list[int]]) -> dict[str, float]:
    """All metrics of the ranked lists of the users that have something to find."""
    popularity = [sum(item in items for items in case.seen) for item in range(NUM_ITEMS)]
    out = {}
    for name in NAMES:
        kind, k = name.split("@")[0], int(name.split("@")[1])
        tops = [items[:k] for items in ranked.values()]
        if kind in ACCURACY:
            out[name] = mean([ACCURACY[kind](items, case.held_out[user], k) for user, items in ranked.items()])
        elif kind == "coverage":
            out[name] = len(set().union(*tops)) / NUM_ITEMS
        elif kind == "popularity":
            out[name] = mean([mean([popularity[item] for item in top]) for top in tops if top])
        else:
            pairs = [list(combinations(top, 2)) for top in tops]
            out[name] = mean([mean([case.category[i] != case.category[j] for i, j in pair]) for pair in pairs if pair])
    return out


@pytest.mark.parametrize("block_size", [7, 1024])
@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_their_definitions(seed: int, block_size: int) -> None:
    case, rng = draw_case(seed), random.Random(seed)
    scores = [rng.sample(range(NUM_ITEMS), NUM_ITEMS) for _ in range(NUM_USERS)]
    ranked = {
        user: sorted(set(range(NUM_ITEMS)) - case.seen[user], key=lambda item: -scores[user][item])
        for user in range(NUM_USERS)
        if case.held_out[user]
    }
    found = Evaluator(NAMES, block_size=block_size)(Table(torch.tensor(scores).float()), as_view(case))
    assert list(found) == NAMES
    assert found == pytest.approx(expected(case, ranked), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_ties_equal_their_definitions(seed: int) -> None:
    """Any order of equal scores is right; the one that is taken is the ranking's of the evaluator's seed."""
    case, rng = draw_case(seed), random.Random(seed)
    scores = [[rng.randrange(3) for _ in range(NUM_ITEMS)] for _ in range(NUM_USERS)]
    view, table = as_view(case), Table(torch.tensor(scores).float())
    users = [user for user in range(NUM_USERS) if case.held_out[user]]
    _, order = rank_items(
        lambda user, item: table.score(view, None, user, item),
        torch.tensor(users),
        NUM_ITEMS,
        NUM_ITEMS,
        seen_items(view),
        generator=torch.Generator().manual_seed(5),
    )
    ranked = {}
    for user, items in zip(users, order.tolist(), strict=True):
        left = set(range(NUM_ITEMS)) - case.seen[user]
        ranked[user] = items[: len(left)]
        assert set(ranked[user]) == left
        values = [scores[user][item] for item in ranked[user]]
        assert values == sorted(values, reverse=True)
    assert Evaluator(NAMES, seed=5)(table, view) == pytest.approx(expected(case, ranked), rel=1e-12, abs=1e-15)


def test_a_perfect_ranking_scores_exactly_one() -> None:
    case = draw_case(0)
    case.held_out[0].clear()  # its item is among the seen ones and cannot be found
    scores = torch.zeros(NUM_USERS, NUM_ITEMS)
    for user, items in enumerate(case.held_out):
        scores[user, sorted(items)] = 1.0
    found = Evaluator([f"{kind}@{k}" for kind in ("ndcg", "map", "hit", "mrr") for k in CUTOFFS])
    assert set(found(Table(scores), as_view(case)).values()) == {1.0}
    assert Evaluator(["recall@25"])(Table(scores), as_view(case)) == {"recall@25": 1.0}


@pytest.mark.parametrize("kind", KINDS)
def test_k_beyond_the_catalogue(kind: str) -> None:
    with pytest.raises(ValueError, match=rf"^'{kind}@26' asks for more than the 25 items of the catalogue$"):
        Evaluator([f"{kind}@26"])(Table(torch.zeros(NUM_USERS, NUM_ITEMS)), as_view(draw_case(0)))


def test_places_that_stay_empty_do_not_count() -> None:
    """One user with two items left, one with one: neither covers, pairs or averages what it has seen."""
    view = HeteroData()
    view["user"].num_nodes, view["item"].num_nodes = 2, 6
    view[INTERACTS].edge_index = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1, 1], [0, 1, 2, 3, 0, 1, 2, 3, 5]])
    view[INTERACTS].edge_label_index = torch.tensor([[0, 1], [4, 4]])
    view["item"].category = torch.tensor([0, 1, 2, 3, 4, 4])
    names = ["coverage@4", "diversity@4", "popularity@4", "precision@4", "recall@4"]
    found = Evaluator(names)(Table(torch.rand(2, 6)), view)
    assert found == {
        "coverage@4": 2 / 6,
        "diversity@4": 0.0,  # items 4 and 5 are of one category; the second user has no pair
        "popularity@4": (0.5 + 0) / 2,
        "precision@4": 1 / 4,
        "recall@4": 1.0,
    }


@pytest.mark.parametrize("k", [1, 5, 10])
@pytest.mark.parametrize("wanted", ["first", "last", "popular"])
def test_constant_scores_rank_at_chance(wanted: str, k: int) -> None:
    """Wherever in the catalogue the wanted items are, each is among the first k of C candidates with chance k / C."""
    rng = random.Random(0)
    items = {"first": range(4), "last": range(NUM_ITEMS - 4, NUM_ITEMS), "popular": range(NUM_ITEMS)}[wanted]
    weights = [1 / (item + 1) for item in items]
    held_out = [set(rng.choices(items, weights, k=3)) for _ in range(NUM_USERS)]
    seen = [set(rng.sample(sorted(set(range(NUM_ITEMS)) - wanted), rng.randint(1, 12))) for wanted in held_out]
    view, table = as_view(Case(seen, held_out, [0] * NUM_ITEMS)), Table(torch.full((NUM_USERS, NUM_ITEMS), 0.5))
    found = [Evaluator([f"recall@{k}"], seed=seed)(table, view)[f"recall@{k}"] for seed in range(150)]
    chance = mean([min(k / (NUM_ITEMS - len(items)), 1) for items in seen])
    standard_error = statistics.stdev(found) / math.sqrt(len(found))
    assert standard_error < 0.03
    assert abs(mean(found) - chance) < 4 * standard_error

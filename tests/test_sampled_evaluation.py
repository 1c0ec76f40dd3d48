from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.evaluation import BaseEvaluator, Evaluator, SampledEvaluator
from pyg_mmrec.models import BPRMF, LightGCN
from pyg_mmrec.training import Trainer
from pyg_mmrec.typing import INTERACTS, Triplets
from pyg_mmrec.utils import to_csr

Views = tuple[HeteroData, HeteroData, HeteroData]
KINDS = ("recall", "precision", "ndcg", "map", "hit", "mrr")
NUM_USERS, NUM_ITEMS = 30, 20


class Table(torch.nn.Module):
    """Scores from a matrix; remembers what it was asked for."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores
        self.modes: list[bool] = []
        self.asked: list[tuple[Tensor, Tensor]] = []

    def forward(self, data: HeteroData) -> None:
        self.modes.append(self.training)

    def score(self, data: HeteroData, representations: None, user: Tensor, item: Tensor | None = None) -> Tensor:
        assert item is not None
        if item.dim() == 1:
            return self.scores[user][:, item]
        self.asked.append((user.clone(), item.clone()))
        return self.scores[user].gather(1, item)

    def lists(self) -> dict[tuple[int, int], list[int]]:
        """By user and positive item, the negative items; where there were too few, the positive one fills up."""
        found = {}
        for users, items in self.asked:
            for user, (positive, *negatives) in zip(users.tolist(), items.tolist(), strict=True):
                assert (user, positive) not in found
                found[user, positive] = [item for item in negatives if item != positive]
        return found


def make_view(num_items: int, seen: list[set[int]], held_out: list[set[int]]) -> HeteroData:
    """A view of a split with these seen and held-out items of each user."""
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = len(seen), num_items
    for key, sets in (("edge_index", seen), ("edge_label_index", held_out)):
        pairs = [(user, item) for user, items in enumerate(sets) for item in items]
        data[INTERACTS][key] = torch.tensor(pairs).t()[:, torch.randperm(len(pairs))]
    data["user"].seen_ptr, data["user"].seen_item = to_csr(*data[INTERACTS].edge_index, num_rows=len(seen))
    return data


def draw_view(seed: int = 0) -> tuple[HeteroData, list[set[int]], list[set[int]]]:
    """Users with any number of seen and held-out items, up to all; a third of them without held-out items."""
    generator = torch.Generator().manual_seed(seed)
    seen, held_out = [], []
    for user in range(NUM_USERS):
        order = torch.randperm(NUM_ITEMS, generator=generator).tolist()
        cut = int(torch.randint(1, NUM_ITEMS, (1,), generator=generator))
        size = int(torch.randint(1, 6, (1,), generator=generator)) if user % 3 else 0
        seen.append(set(order[:cut]))
        held_out.append(set(order[cut : cut + size]))
    return make_view(NUM_ITEMS, seen, held_out), seen, held_out


def draw_scores(seed: int = 0, num_values: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if num_values is None:
        return torch.randn(NUM_USERS, NUM_ITEMS, generator=generator)
    return torch.randint(num_values, (NUM_USERS, NUM_ITEMS), generator=generator).float()


def plain_gauc(scores: Tensor, lists: dict[tuple[int, int], list[int]]) -> float:
    """User by user, with scikit-learn."""
    total, impressions = 0.0, 0
    for user in {user for user, _ in lists}:
        items, labels = [], []
        for (other, positive), negatives in lists.items():
            if other == user:
                items += [positive, *negatives]
                labels += [1] + [0] * len(negatives)
        total += len(items) * roc_auc_score(labels, scores[user, items].double().numpy())
        impressions += len(items)
    return total / impressions


def plain_value(kind: str, k: int, place: int) -> float:
    """A metric of a list whose only positive item is at a place, counted from 1."""
    if place > k:
        return 0.0
    return {"precision": 1 / k, "ndcg": 1 / math.log2(place + 1), "map": 1 / place, "mrr": 1 / place}.get(kind, 1.0)


# Values


@pytest.mark.parametrize("block_size", [1, 7, 1024])
@pytest.mark.parametrize("num_negatives", [3, 10])
@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_a_plain_implementation(seed: int, num_negatives: int, block_size: int) -> None:
    view, scores = draw_view(seed)[0], draw_scores(seed)
    names = ["gauc", *(f"{kind}@{k}" for k in (1, 2, 4) for kind in KINDS)]
    model = Table(scores)
    found = SampledEvaluator(names, num_negatives=num_negatives, block_size=block_size, seed=seed)(model, view)
    lists = model.lists()
    places = [1 + sum(bool(scores[u, j] > scores[u, i]) for j in others) for (u, i), others in lists.items()]
    expected = {"gauc": plain_gauc(scores, lists)}
    for name in names[1:]:
        kind, k = name.split("@")
        expected[name] = sum(plain_value(kind, int(k), place) for place in places) / len(places)
    assert list(found) == names
    assert found == pytest.approx(expected, rel=1e-12)
    assert all(isinstance(value, float) for value in found.values())


@pytest.mark.parametrize("num_values", [2, 4])
def test_ties(num_values: int) -> None:
    view, scores = draw_view(1)[0], draw_scores(1, num_values)
    model = Table(scores)
    hits = []
    for seed in range(60):
        model.asked.clear()
        found = SampledEvaluator(["gauc", "hit@1"], num_negatives=6, seed=seed)(model, view)
        lists, chance = model.lists(), 0.0
        if seed < 5:
            assert found["gauc"] == pytest.approx(plain_gauc(scores, lists), rel=1e-12)
        for (user, positive), others in lists.items():
            own, values = scores[user, positive], scores[user, others]
            chance += 0.0 if (values > own).any() else 1 / (1 + int((values == own).sum()))
        hits.append(found["hit@1"] - chance / len(lists))
    assert abs(sum(hits) / 60) < 0.01
    assert len(set(hits)) > 20
    evaluator = SampledEvaluator(["hit@1"], num_negatives=6)
    assert evaluator(model, view) == evaluator(Table(scores), view)


def test_perfect_constant_and_worst_scores_are_exact() -> None:
    view, _, held_out = draw_view(2)
    perfect = torch.zeros(NUM_USERS, NUM_ITEMS)
    for user, items in enumerate(held_out):
        perfect[user, list(items)] = 1
    names = ["gauc", "ndcg@1", "hit@1", "mrr@5"]
    evaluator = SampledEvaluator(names, num_negatives=7)
    assert evaluator(Table(perfect), view) == dict.fromkeys(names, 1.0)
    assert evaluator(Table(perfect * 2 - torch.inf), view)["gauc"] == 0.5  # nothing but -inf
    assert evaluator(Table(torch.full_like(perfect, 0.3)), view)["gauc"] == 0.5
    worst = evaluator(Table(torch.where(perfect > 0, -torch.inf, 0.0)), view)
    assert worst["gauc"] == worst["hit@1"] == 0.0


def test_constant_scores_rank_at_chance() -> None:
    view = make_view(200, [{0}] * 300, [{1, 2}] * 300)
    found = [
        SampledEvaluator(["hit@10", "ndcg@10"], num_negatives=99, seed=seed)(Table(torch.zeros(300, 200)), view)
        for seed in range(5)
    ]
    gains = sum(1 / math.log2(place + 1) for place in range(1, 11)) / 100
    assert sum(row["hit@10"] for row in found) / 5 == pytest.approx(0.1, abs=0.02)
    assert sum(row["ndcg@10"] for row in found) / 5 == pytest.approx(gains, abs=0.01)


# Candidates


def ask(view: HeteroData, **kwargs: Any) -> dict[tuple[int, int], list[int]]:
    model = Table(kwargs.pop("scores", draw_scores()))
    SampledEvaluator(["gauc"], **kwargs)(model, view)
    return model.lists()


@pytest.mark.parametrize("seed", range(3))
def test_negatives_are_neither_seen_nor_held_out(seed: int) -> None:
    view, seen, held_out = draw_view(seed)
    lists = ask(view, num_negatives=6, seed=seed)
    left = [set(range(NUM_ITEMS)) - one - other for one, other in zip(seen, held_out, strict=True)]
    assert set(lists) == {(u, i) for u, items in enumerate(held_out) for i in items if left[u]}
    for (user, _), others in lists.items():
        assert len(set(others)) == len(others) == min(6, len(left[user]))
        assert set(others) <= left[user]
    assert any(len(others) < 6 for others in lists.values())
    assert any(len(items) > 1 for items in held_out)


def test_candidates_depend_on_the_view_and_the_seed_alone() -> None:
    view = draw_view()[0]
    expected = ask(view, num_negatives=5)
    for block_size in (1, 2, 9, 1024):
        assert ask(view, num_negatives=5, block_size=block_size) == expected
    assert ask(view, num_negatives=5, scores=draw_scores(7)) == expected
    moved = copy.copy(view)
    moved[INTERACTS].edge_label_index = view[INTERACTS].edge_label_index.flip(1).repeat(1, 2)  # repeats count once
    torch.manual_seed(3)
    assert ask(moved, num_negatives=5) == expected
    other = ask(view, num_negatives=5, seed=1)
    assert other.keys() == expected.keys()
    assert other != expected


def test_negatives_are_uniform_and_lists_are_independent() -> None:
    view = make_view(12, [{0, 5}] * 400, [{3, 7}] * 400)
    lists = ask(view, num_negatives=4, scores=torch.zeros(400, 12))
    drawn = torch.bincount(torch.tensor([item for others in lists.values() for item in others]), minlength=12)
    left = [1, 2, 4, 6, 8, 9, 10, 11]
    assert int(drawn[left].sum()) == 800 * 4
    assert chisquare(drawn[left].numpy()).pvalue > 1e-3
    shared = [len(set(lists[user, 3]) & set(lists[user, 7])) for user in range(400)]
    assert sum(shared) / 400 == pytest.approx(4 * 4 / 8, abs=0.15)


def test_items_that_were_never_seen_are_candidates() -> None:
    view = make_view(5, [{0}, {0}], [{1}, {1}])
    assert [sorted(others) for others in ask(view, num_negatives=9).values()] == [[2, 3, 4]] * 2


def test_a_strict_view_leaves_out_what_it_masks() -> None:
    view = make_view(5, [{0}], [{1}])
    view["user"].seen_ptr, view["user"].seen_item = torch.tensor([0, 2]), torch.tensor([0, 4])  # 4 at validation
    assert sorted(ask(view, num_negatives=9)[0, 1]) == [2, 3]


def test_users_with_nothing_left_are_left_out() -> None:
    view = make_view(4, [{0, 1}, {0, 1, 2}, {2}], [{2, 3}, {3}, {1}])
    lists = ask(view, num_negatives=3)
    assert {key: sorted(others) for key, others in lists.items()} == {(2, 1): [0, 3]}
    nothing = make_view(4, [{0, 1}, {0, 1, 2}], [{2, 3}, {3}])
    refused = r"^no user with held-out interactions has an item left that could be drawn as a negative: use Evaluator$"
    with pytest.raises(ValueError, match=refused):
        SampledEvaluator(["gauc"]).check(nothing)
    with pytest.raises(ValueError, match=refused):
        SampledEvaluator(["gauc"])(Table(torch.zeros(2, 4)), nothing)


# How a model is asked


@pytest.mark.parametrize("training", [False, True])
def test_the_mode_and_the_global_generator_stay_as_they_were(training: bool) -> None:
    view, state = draw_view()[0], torch.get_rng_state()
    model = Table(draw_scores()).train(training)
    SampledEvaluator(["gauc"])(model, view)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.modes == [False]
    model.scores[1:] = torch.nan
    with pytest.raises(ValueError, match=r"^the scores of user 1 are NaN: the model has diverged$"):
        SampledEvaluator(["gauc"])(model, view)
    assert model.training == training


def test_lists_are_scored_in_blocks() -> None:
    view, _, held_out = draw_view()
    model = Table(draw_scores())
    SampledEvaluator(["gauc"], num_negatives=4, block_size=3)(model, view)
    assert max(user.numel() for user, _ in model.asked) == 3
    assert sum(user.numel() for user, _ in model.asked) <= sum(map(len, held_out))
    assert {item.size(1) for _, item in model.asked} == {5}


def test_data_stays_as_it_was(tiny_split: Views) -> None:
    view = tiny_split[1]
    before = {store._key: dict(store.items()) for store in view.stores[1:]}
    SampledEvaluator(["gauc"])(LightGCN.from_data(view, hidden_channels=8), view)
    for store in view.stores[1:]:
        assert list(store.keys()) == list(before[store._key])
        assert all(store[key] is value for key, value in before[store._key].items())


def test_all_items_as_candidates_give_the_full_ranking(tiny_split: Views) -> None:
    """Where a user has one held-out item."""
    model = Table(torch.randn(40, 30, generator=torch.Generator().manual_seed(0)))
    names = ["ndcg@5", "recall@5", "mrr@5", "map@5", "precision@5", "hit@5"]
    sampled = SampledEvaluator(names, num_negatives=29)(model, tiny_split[2])
    assert sampled == pytest.approx(Evaluator(names)(model, tiny_split[2]), rel=1e-12)


# Bad input


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SampledEvaluator([]), r"^'metrics' must name at least one metric \(got none\)$"),
        (lambda: SampledEvaluator("gauc"), r"^'metrics' must be a list of names, \['gauc'\] \(got 'gauc'\)$"),  # type: ignore[arg-type]
        (
            lambda: SampledEvaluator(["gacu"]),
            r"^a metric is 'gauc' or written kind@k, such as 'ndcg@10' \(got 'gacu'\)$",
        ),
        (lambda: SampledEvaluator(["gauc@10"]), r"^unknown metric 'gauc@10'"),
        (lambda: SampledEvaluator(["ndgc@10"]), r"^unknown metric 'ndgc@10': did you mean 'ndcg@10'$"),
        (lambda: SampledEvaluator(["coverage@10"]), r"^'coverage@10' describes lists of the whole catalogue"),
        (
            lambda: SampledEvaluator(["hit@12"], num_negatives=10),
            r"^'hit@12' asks for more than the 11 candidates of a list: lower k or raise 'num_negatives'$",
        ),
        (lambda: SampledEvaluator(num_negatives=0), r"^'num_negatives' must be positive \(got 0\)$"),
        (lambda: SampledEvaluator(block_size=0), r"^'block_size' must be positive \(got 0\)$"),
        (lambda: SampledEvaluator(seed=-1), r"^'seed' must not be negative \(got -1\)$"),
        (lambda: Evaluator(["gauc"]), r"^a metric is written kind@k"),
    ],
)
def test_bad_arguments(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_bad_views() -> None:
    view = draw_view()[0]
    with pytest.raises(ValueError, match=r"^'hit@21' asks for more than the 20 items of the catalogue$"):
        SampledEvaluator(["gauc", "hit@21"]).check(view)
    view[INTERACTS].edge_label_index = torch.tensor([[0], [20]])
    with pytest.raises(ValueError, match=r"edge_label_index names items outside 0..19"):
        SampledEvaluator(["gauc"]).check(view)
    del view[INTERACTS].edge_label_index
    with pytest.raises(ValueError, match=r"^the data has no held-out interactions, 'edge_label_index'"):
        SampledEvaluator(["gauc"])(Table(draw_scores()), view)


def test_defaults_and_names() -> None:
    evaluator = SampledEvaluator()
    assert evaluator.metrics == ("gauc", "ndcg@10", "hit@10", "mrr@10")
    assert evaluator.num_negatives == 100
    assert repr(SampledEvaluator(["gauc", "hit@3"])) == "SampledEvaluator(gauc, hit@3, num_negatives=100)"


# Training


def trainer(**kwargs: Any) -> Trainer:
    defaults: dict[str, Any] = {"evaluator": SampledEvaluator(num_negatives=20), "monitor": "gauc", "max_epochs": 3}
    defaults |= {"batch_size": 64, "learning_rate": 0.02, "accelerator": "cpu", "progress": False}
    return Trainer(**(defaults | kwargs))


def build(data: HeteroData) -> BPRMF:
    torch.manual_seed(0)
    return BPRMF.from_data(data, hidden_channels=8)


def test_training_is_selected_on_group_auc(tiny_split: Views) -> None:
    model = build(tiny_split[0])
    result = trainer(max_epochs=8).fit(model, *tiny_split)
    values = [row["gauc"] for row in result.history]
    assert result.best_epoch == values.index(max(values))
    assert result.validation["gauc"] == max(values) > 0.6
    assert result.test == SampledEvaluator(num_negatives=20)(model, tiny_split[2])
    assert set(result.test) == {"gauc", "ndcg@10", "hit@10", "mrr@10"}


def test_a_resumed_training_ends_with_the_same_weights(tiny_split: Views, tmp_path: Path) -> None:
    whole = build(tiny_split[0])
    expected = trainer().fit(whole, *tiny_split)
    stopped = build(tiny_split[0])
    compute, calls = stopped.loss, []

    def loss(self: BPRMF, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return compute(data, batch)

    stopped.loss = MethodType(loss, stopped)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer(run_dir=tmp_path, checkpoint_epochs=1).fit(stopped, *tiny_split)
    for evaluator, changed in (
        (SampledEvaluator(num_negatives=19), "evaluator.num_negatives = 20, not 19"),
        (SampledEvaluator(num_negatives=20, seed=1), "evaluator.seed = 0, not 1"),
        (SampledEvaluator(["gauc"], num_negatives=20), "metrics = "),
    ):
        with pytest.raises(ValueError, match=f"was written with {changed}"):
            trainer(run_dir=tmp_path, evaluator=evaluator).fit(build(tiny_split[0]), *tiny_split, resume=True)
    resumed = build(tiny_split[0])
    result = trainer(run_dir=tmp_path).fit(resumed, *tiny_split, resume=True)
    assert (result.validation, result.test) == (expected.validation, expected.test)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)


def test_the_kind_of_evaluator_must_not_change(tiny_split: Views, tmp_path: Path) -> None:
    names = ["hit@3", "mrr@3"]
    trainer(run_dir=tmp_path, evaluator=Evaluator(names), monitor="hit@3").fit(build(tiny_split[0]), *tiny_split)
    other = trainer(run_dir=tmp_path, evaluator=SampledEvaluator(names), monitor="hit@3")
    with pytest.raises(ValueError, match=r"was written with evaluator.num_negatives = None, not 100"):
        other.fit(build(tiny_split[0]), *tiny_split, resume=True)


def test_a_monitor_that_is_not_measured() -> None:
    with pytest.raises(ValueError, match=r"^'monitor' must be one of gauc, ndcg@10, .* \(got 'recall@20'\)$"):
        Trainer(evaluator=SampledEvaluator())
    with pytest.raises(ValueError, match=r"^'monitor' must be one of recall@10, .* \(got 'gauc'\)$"):
        Trainer(monitor="gauc")


def test_a_training_with_an_evaluator_of_ones_own(tiny_split: Views) -> None:
    class Spread(BaseEvaluator):
        """Standard deviation of the scores of held-out interactions."""

        def measure(self, score: Callable[[Tensor, Tensor], Tensor], data: HeteroData) -> dict[str, float]:
            user, item = data[INTERACTS].edge_label_index
            return {"spread": float(score(user, item.unsqueeze(1)).std())}

    with pytest.raises(ValueError, match=r"^'metrics' must name"):
        Spread([], 1, 0)
    result = trainer(evaluator=Spread(["spread"], 8, 0), monitor="spread").fit(build(tiny_split[0]), *tiny_split)
    assert list(result.test) == ["spread"]
    assert result.validation["spread"] == max(row["spread"] for row in result.history)

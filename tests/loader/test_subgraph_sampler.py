from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.loader import SubgraphSampler, TripletLoader
from pyg_mmrec.models import BPRMF, FREEDOM, MGCN, SEA, VBPR, LightGCN, Recommender
from pyg_mmrec.typing import INTERACTS, ITEM, USER, Reach, Triplets
from pyg_mmrec.utils import graph_ids, interaction_operator, interaction_operators, with_operators

MODELS = [
    (BPRMF, {}),
    (VBPR, {}),
    (LightGCN, {"num_layers": 0}),
    (LightGCN, {"num_layers": 1}),
    (LightGCN, {"num_layers": 3}),
    (FREEDOM, {"pruning": 0.0}),
    (FREEDOM, {"pruning": 0.0, "num_layers": 0}),
    (FREEDOM, {"pruning": 0.0, "num_layers": 1, "num_item_layers": 2, "train_features": True}),
]


def first_batch(data: HeteroData, size: int = 5) -> Triplets:
    return next(TripletLoader(data, size, seed=3).epoch(0))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loss_and_gradients(model: Recommender, data: HeteroData, batch: Triplets) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    loss = torch.stack(list(model.loss(data, batch).values())).sum()
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


def without_targets(data: HeteroData, batch: Triplets) -> HeteroData:
    """The whole graph, over whose weights the batch's own interactions carry nothing."""
    view = copy.copy(data)
    view[INTERACTS].operator = interaction_operator(data).without(batch.user, batch.pos_item)
    return view


@pytest.mark.parametrize("drop_targets", [False, True])
@pytest.mark.parametrize(("cls", "args"), MODELS)
def test_all_neighbors_equal_the_whole_graph(
    tiny_data: HeteroData, cls: type[Recommender], args: dict[str, object], drop_targets: bool
) -> None:
    data = with_operators(tiny_data)
    model, batch = cls.from_data(data, hidden_channels=8, **args), first_batch(data)
    reach = model.reach()
    assert reach is not None
    view, local = SubgraphSampler(reach, -1, drop_targets)(data, batch, generator())
    whole = without_targets(data, batch) if drop_targets else data
    loss, gradients = loss_and_gradients(model, whole, batch)
    sampled_loss, sampled = loss_and_gradients(model, view, local)
    torch.testing.assert_close(sampled_loss, loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(sampled[name], gradient, msg=lambda text, name=name: f"{name}: {text}")
    out, part = model(whole), model(view)
    torch.testing.assert_close(part.user[local.user], out.user[batch.user])
    for global_item, item in ((batch.pos_item, local.pos_item), (batch.neg_item, local.neg_item)):
        torch.testing.assert_close(part.item[item], out.item[global_item])


def test_targets_leave_the_message_graph(tiny_data: HeteroData) -> None:
    data, batch = with_operators(tiny_data), first_batch(tiny_data, 50)
    targets = set(zip(batch.user.tolist(), batch.pos_item.tolist(), strict=True))
    for drop, expected in ((False, targets), (True, set())):
        view, _ = SubgraphSampler(Reach(2), -1, drop)(data, batch, generator())
        users, items = view[USER].n_id, view[ITEM].n_id
        for operator, swap in zip(interaction_operators(view), (True, False), strict=True):
            row, col = operator.targets, operator.col.long()
            user, item = (users[col], items[row]) if swap else (users[row], items[col])
            assert targets & set(zip(user.tolist(), item.tolist(), strict=True)) == expected


@pytest.mark.parametrize("neighbors", [1, 3, [2, 4]])
def test_each_node_draws_distinct_neighbors_of_its_own(tiny_data: HeteroData, neighbors: int | list[int]) -> None:
    data, batch = with_operators(tiny_data), first_batch(tiny_data)
    view, local = SubgraphSampler(Reach(2), neighbors)(data, batch, generator())
    users, items = view[USER].n_id, view[ITEM].n_id
    assert torch.equal(users[local.user], batch.user)
    assert torch.equal(items[local.pos_item], batch.pos_item)
    assert torch.equal(items[local.neg_item], batch.neg_item)
    assert users.unique().numel() == users.numel() == view[USER].num_nodes
    assert items.unique().numel() == items.numel() == view[ITEM].num_nodes
    dense, most = interaction_operator(data).to_dense(), [neighbors] * 2 if isinstance(neighbors, int) else neighbors
    to_item, to_user = interaction_operators(view)
    for operator, known, names in (
        (to_item, dense[items][:, users], batch.pos_item),
        (to_user, dense.t()[users][:, items], batch.user),
    ):
        part = operator.to_dense()
        degree = (dense if operator is to_item else dense.t()).count_nonzero(1)[items if operator is to_item else users]
        count = part.count_nonzero(1)
        assert ((part > 0) <= (known > 0)).all()
        first = names.unique().numel()  # at least so many nodes are of the batch
        assert torch.equal(count[:first], degree[:first].clamp(max=most[0]))
        assert (count <= degree.clamp(max=max(most))).all()
        scale = torch.where(count > 0, degree / count.clamp_min(1), 0)
        torch.testing.assert_close(part, torch.where(part > 0, known * scale.unsqueeze(1), 0.0))
        torch.testing.assert_close(operator.t().to_dense(), part.t())


def test_representations_are_right_in_expectation(tiny_data: HeteroData) -> None:
    data, batch = with_operators(tiny_data), first_batch(tiny_data)
    model = LightGCN.from_data(data, hidden_channels=4, num_layers=2)
    sampler, draws, sums = SubgraphSampler(Reach(2), 2), 2000, torch.zeros(5, 4)
    source = generator()
    with torch.no_grad():
        for _ in range(draws):
            view, local = sampler(data, batch, source)
            sums += model(view).user[local.user]
        expected = model(data).user[batch.user]
    assert (sums / draws - expected).abs().max() < 0.15 * expected.abs().max()


def test_samples_follow_from_their_generator(tiny_data: HeteroData) -> None:
    data, batch, sampler = with_operators(tiny_data), first_batch(tiny_data), SubgraphSampler(Reach(2, 1), 2)
    state = torch.get_rng_state()
    one, two, other = (sampler(data, batch, generator(seed))[0] for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one[INTERACTS].edge_index, two[INTERACTS].edge_index)
    assert one[INTERACTS].edge_index.shape != other[INTERACTS].edge_index.shape or not torch.equal(
        one[INTERACTS].edge_index, other[INTERACTS].edge_index
    )


def test_the_graph_stays_as_it_was(tiny_data: HeteroData) -> None:
    data = with_operators(tiny_data)
    keys = {store._key: set(store) for store in data.stores}
    SubgraphSampler(Reach(2, 1), 2, drop_targets=True)(data, first_batch(data), generator())
    assert {store._key: set(store) for store in data.stores} == keys


def test_graph_ids(tiny_data: HeteroData) -> None:
    index = torch.tensor([0, 1])
    assert graph_ids(tiny_data, USER) is None
    assert graph_ids(tiny_data, USER, index) is index
    view, local = SubgraphSampler(Reach(1), 1)(tiny_data, first_batch(tiny_data), generator())
    assert torch.equal(graph_ids(view, USER, local.user), first_batch(tiny_data).user)
    assert torch.equal(graph_ids(view, ITEM), view[ITEM].n_id)


@pytest.mark.parametrize("cls", [MGCN, SEA])
def test_models_that_read_the_whole_graph_refuse_samples(tiny_data: HeteroData, cls: type[Recommender]) -> None:
    model = cls.from_data(tiny_data)
    assert model.reach() is None
    view, _ = SubgraphSampler(Reach(2), 2)(tiny_data, first_batch(tiny_data), generator())
    with pytest.raises(ValueError, match=f"^{cls.__name__} reads the whole graph and cannot be run on a sample of it$"):
        model(view)


@pytest.mark.parametrize(
    ("neighbors", "message"),
    [
        (0, "'neighbors' must be -1, for all, or positive (got 0)"),
        (-2, "'neighbors' must be at least -1 (got -2)"),
        ([2, 0], "'neighbors' must be -1, for all, or positive (got 0)"),
        ([2, 1.5], "'neighbors' must be an int (got 1.5)"),
        ([2], "'neighbors' must be one number or one for each of the model's 2 layers over the interactions (got [2])"),
    ],
)
def test_bad_arguments(neighbors: int | list[int], message: str) -> None:
    with pytest.raises(ValueError, match="'") as error:
        SubgraphSampler(Reach(2), neighbors)
    assert str(error.value) == message


def test_repr() -> None:
    assert repr(SubgraphSampler(Reach(2), 10)) == "SubgraphSampler(neighbors=[10, 10], drop_targets=False)"


@pytest.mark.parametrize(("number", "expected"), [(1, 2048), (524_288, 2048), (524_289, 2049), (10_000_000, 39_063)])
def test_batches_grow_with_the_data(tiny_data: HeteroData, number: int, expected: int) -> None:
    tiny_data[INTERACTS].edge_label_index = tiny_data[INTERACTS].edge_index[:, :1].expand(2, number)
    loader = TripletLoader(tiny_data, "auto")
    assert loader.batch_size == expected
    assert len(loader) <= 256

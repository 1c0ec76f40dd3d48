from __future__ import annotations

import copy
import warnings

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models import (
    BM3,
    FREEDOM,
    GRCN,
    LATTICE,
    MGCN,
    MICRO,
    MMGCL,
    MMGCN,
    MMSSL,
    SEA,
    VBPR,
    DRepMRec,
    DualGNN,
    LGMRec,
    Recommender,
    SLMRec,
)
from pyg_mmrec.nn import ModalProjection
from pyg_mmrec.transforms import ModalKNNGraph, UserCooccurrence, UserModalMean
from pyg_mmrec.typing import INTERACTS, Triplets
from pyg_mmrec.utils import modality_masks
from tests.properties.strategies import PROPERTY, generator, interactions

WIDTHS = {"image": 3, "text": 2}


@st.composite
def graphs(draw: st.DrawFn) -> HeteroData:
    """Items with two modalities, either with a mask, two items or more that have it, or without one."""
    data, random = draw(interactions()), generator(draw)
    num_items = data["item"].num_nodes
    for name, width in WIDTHS.items():
        data["item"][f"x_{name}"] = torch.rand(num_items, width, generator=random) + 0.1
        if draw(st.booleans()):
            mask = torch.rand(num_items, generator=random) > draw(st.sampled_from([0.2, 0.8]))
            mask[torch.randperm(num_items, generator=random)[:2]] = True
            data["item"][f"mask_{name}"] = mask
    return data


def spoiled(data: HeteroData) -> HeteroData:
    """The same data with other numbers in the rows that the masks leave out."""
    data = copy.copy(data)
    for name, mask in modality_masks(data, list(WIDTHS)).items():
        data["item"][f"x_{name}"] = data["item"][f"x_{name}"].masked_fill(~mask.unsqueeze(1), 7.0)
    return data


def quiet(transform: ModalKNNGraph | UserModalMean, data: HeteroData) -> HeteroData:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out: HeteroData = transform(copy.copy(data))
    return out


def has(data: HeteroData, name: str) -> Tensor:
    return data["item"].get(f"mask_{name}", torch.ones(data["item"].num_nodes, dtype=torch.bool))


@PROPERTY
@given(graphs(), st.data())
def test_projection_of_what_is_missing_is_zero(data: HeteroData, draw: st.DataObject) -> None:
    project = ModalProjection(WIDTHS, 4)
    torch.nn.init.ones_(project.lins["image"].bias)
    index = torch.tensor(draw.draw(st.lists(st.integers(0, data["item"].num_nodes - 1), max_size=6)), dtype=torch.long)
    whole, part, other = project(data), project(data, index), project(spoiled(data))
    for name in WIDTHS:
        assert (whole[name][~has(data, name)] == 0).all()
        assert (whole[name][has(data, name)] != 0).any(1).all()
        torch.testing.assert_close(part[name], whole[name][index])
        assert torch.equal(other[name], whole[name])


@PROPERTY
@given(graphs(), st.integers(1, 2), st.booleans(), st.sampled_from(["row", "sym", "none"]))
def test_no_edges_of_what_is_missing(data: HeteroData, k: int, weighted: bool, normalization: str) -> None:
    transform = ModalKNNGraph(k, weighted=weighted, normalization=normalization)  # type: ignore[arg-type]
    out, other = quiet(transform, data), quiet(transform, spoiled(data))
    for name in WIDTHS:
        graph, twin = (view["item", f"similar_{name}", "item"] for view in (out, other))
        assert set(graph.edge_index.flatten().tolist()) == set(has(data, name).nonzero().flatten().tolist())
        assert torch.equal(graph.edge_index, twin.edge_index)
        assert torch.equal(graph.edge_weight, twin.edge_weight)
        assert graph.edge_weight.isfinite().all()


@PROPERTY
@given(graphs())
def test_users_average_what_there_is(data: HeteroData) -> None:
    out, other = quiet(UserModalMean(), data), quiet(UserModalMean(), spoiled(data))
    edges = data[INTERACTS].edge_index
    for name in WIDTHS:
        x, mask = out["user"][f"x_{name}"], out["user"][f"mask_{name}"]
        for user in range(data["user"].num_nodes):
            own = edges[1][edges[0] == user]
            rows = data["item"][f"x_{name}"][own[has(data, name)[own]]]
            assert bool(mask[user]) == bool(len(rows))
            torch.testing.assert_close(x[user], rows.mean(0) if len(rows) else torch.zeros(WIDTHS[name]))
        assert torch.equal(other["user"][f"x_{name}"], x)


@PROPERTY
@given(graphs(), st.integers(0, 99))
def test_models_do_not_read_what_is_missing(data: HeteroData, seed: int) -> None:
    data = quiet(ModalKNNGraph(1), data)
    data = quiet(ModalKNNGraph(1, node_type="user"), quiet(UserModalMean(), data))
    data = UserCooccurrence()(data)
    user, item = data[INTERACTS].edge_index
    batch = Triplets(user, item, item.flip(0))
    plain = (VBPR, MMGCN, GRCN, DualGNN, BM3, FREEDOM, MGCN, LGMRec, SLMRec, MMGCL, DRepMRec)
    cases: dict[type[Recommender], dict[str, object]] = {cls: {} for cls in plain}
    cases[LATTICE] = cases[MICRO] = {"num_neighbors": 1}
    cases[MMSSL] = {"num_heads": 2}
    cases[SEA] = {"alignment": None, "estimator_steps": 2}
    for cls, init_args in cases.items():
        losses, outs = [], []
        for view in (data, spoiled(data)):
            torch.manual_seed(seed)
            model = cls.from_data(view, hidden_channels=2, **init_args)
            for parameter in model.parameters():
                parameter.data.add_(0.1)
            losses.append(model.loss(view, batch))
            outs.append(model.eval()(view))
        torch.testing.assert_close(losses[0], losses[1])
        torch.testing.assert_close(outs[0].user, outs[1].user)
        torch.testing.assert_close(outs[0].item, outs[1].item)

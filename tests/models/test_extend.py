from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.benchmark import prepare
from pyg_mmrec.cli.parser import MODELS
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.models import BPRMF, FREEDOM, LATTICE, MMIL, SEA, VBPR, LightGCN, Recommender
from pyg_mmrec.training import Trainer
from pyg_mmrec.transforms import ModalKNNGraph, UserCooccurrence
from pyg_mmrec.typing import INTERACTS

KNOWN, ALL = 30, 40


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[HeteroData, HeteroData]:
    """A small shop with the graphs that all models read, and with ten more items that nobody has bought."""
    shop = AttributeShop(str(tmp_path_factory.mktemp("shop")), 40, ALL, interactions_per_user=6)[0]
    shop["user"].num_nodes = 40
    small = shop.subgraph({"item": torch.arange(KNOWN)})
    view = UserCooccurrence()(prepare(small, MODELS.values(), graph=ModalKNNGraph(k=3))[0])
    large = ModalKNNGraph(k=3)(copy.copy(shop))
    for edge_type in view.edge_types:
        if edge_type[2] == "user":
            large[edge_type].update(view[edge_type].to_dict())
    del large[INTERACTS]
    large[INTERACTS].edge_index = view[INTERACTS].edge_index
    return view, large


@pytest.mark.parametrize("name", MODELS)
def test_every_model_ranks_new_items(name: str, grown: tuple[HeteroData, HeteroData]) -> None:
    view, large = grown
    torch.manual_seed(0)
    model: Recommender = MODELS[name].from_data(view)  # type: ignore[attr-defined]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    extended = model.extend(large)
    assert type(extended) is type(model)
    assert (extended.num_users, extended.num_items) == (40, ALL)
    for key, value in extended.state_dict().items():
        if value.shape == before[key].shape:
            assert torch.equal(value, before[key]), key
        elif value.is_floating_point():
            axis = next(i for i, (a, b) in enumerate(zip(value.shape, before[key].shape, strict=True)) if a != b)
            assert torch.equal(value.narrow(axis, 0, KNOWN), before[key]), key
            assert value.isfinite().all()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    items = extended.recommend(large, torch.arange(8), ALL - 20)[1]
    assert int(items.max()) < ALL


def test_rows_of_new_items_are_means_over_similar_ones(grown: tuple[HeteroData, HeteroData]) -> None:
    view, large = grown
    model = BPRMF.from_data(view)
    table = model.item_emb.weight
    parts = []
    for name in ("image", "text"):
        unit = torch.nn.functional.normalize(large["item"][f"x_{name}"], dim=1)
        parts.append(table[(unit[KNOWN:] @ unit[:KNOWN].t()).topk(4).indices].mean(1))
    rows = model.extend(large, k=4).item_emb.weight[KNOWN:]
    torch.testing.assert_close(rows, torch.stack(parts).mean(0))
    mean = model.extend(large, rows="mean").item_emb.weight[KNOWN:]
    torch.testing.assert_close(mean, table.mean(0).expand(ALL - KNOWN, -1))
    assert not model.extend(large, rows="zero").item_emb.weight[KNOWN:].any()


def test_items_without_features_take_the_mean_and_graphs_do_without(grown: tuple[HeteroData, HeteroData]) -> None:
    view, large = grown
    large = copy.copy(large)
    model = BPRMF.from_data(view)
    for name in ("image", "text"):
        large["item"][f"mask_{name}"] = torch.arange(ALL) != KNOWN
    row = model.extend(large).item_emb.weight[KNOWN]
    torch.testing.assert_close(row, model.item_emb.weight.mean(0))
    for name in ("image", "text"):
        del large["item"][f"x_{name}"]
    source, target = torch.cat([large["item", f"similar_{name}", "item"].edge_index for name in ("image", "text")], 1)
    near = source[(target == ALL - 1) & (source < KNOWN)]
    if near.numel():
        torch.testing.assert_close(model.extend(large).item_emb.weight[-1], model.item_emb.weight[near].mean(0))


def test_known_items_can_be_made_anew(grown: tuple[HeteroData, HeteroData]) -> None:
    view, large = grown
    model = VBPR.from_data(view)
    again = model.extend(view, new=torch.tensor([3, 5]), rows="zero").item_emb.weight
    assert not again[[3, 5]].any()
    kept = torch.arange(KNOWN)[[i not in (3, 5) for i in range(KNOWN)]]
    assert torch.equal(again[kept], model.item_emb.weight[kept])
    both = model.extend(large, new=torch.tensor([3]), rows="zero").item_emb.weight
    assert not both[[3, KNOWN, ALL - 1]].any()


def test_trained_features_of_new_items_start_at_the_data(grown: tuple[HeteroData, HeteroData]) -> None:
    view, large = grown
    model = FREEDOM.from_data(view, train_features=True)
    with torch.no_grad():
        model.features["text"] += 1
    text = model.extend(large).features["text"]
    assert torch.equal(text[:KNOWN], model.features["text"])
    assert torch.equal(text[KNOWN:], large["item"].x_text[KNOWN:])


def test_held_neighbors_are_found_anew(grown: tuple[HeteroData, HeteroData]) -> None:
    view, large = grown
    model = LATTICE.from_data(view, num_neighbors=3)
    model.start_epoch(view, 0, torch.Generator())
    assert bool((model.structure.neighbors >= 0).any())
    assert not bool((model.extend(large).structure.neighbors >= 0).any())


def test_an_extended_model_is_saved_and_trained_on(grown: tuple[HeteroData, HeteroData], tmp_path: Path) -> None:
    view, large = grown
    extended = MMIL.from_data(view).extend(large)
    extended.save_pretrained(tmp_path)
    loaded = Recommender.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), extended.parameters(), strict=True))
    model = LightGCN.from_data(view).eval().extend(large)
    assert not model.training
    train = copy.copy(large)
    train[INTERACTS].edge_label_index = view[INTERACTS].edge_index
    result = Trainer(max_epochs=1, batch_size=64, progress=False, accelerator="cpu").fit(model, train, train)
    assert result.num_epochs == 1


def test_what_does_not_fit_is_refused(grown: tuple[HeteroData, HeteroData]) -> None:
    view, large = grown
    model = BPRMF.from_data(large)
    with pytest.raises(ValueError, match="40 users and 30 items but BPRMF was built for 40 and 40"):
        model.extend(view)
    with pytest.raises(ValueError, match=r"'new' must lie in 0..39"):
        model.extend(large, new=torch.tensor([40]))
    with pytest.raises(ValueError, match="'new' must be a tensor of items"):
        model.extend(large, new=[3])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'new' must leave an item that the model knows"):
        model.extend(large, new=torch.arange(40))
    with pytest.raises(ValueError, match="'rows' must be 'neighbors', 'mean' or 'zero'"):
        model.extend(large, rows="random")  # type: ignore[arg-type]
    bare = HeteroData()
    bare["user"].num_nodes, bare["item"].num_nodes = 40, 41
    with pytest.raises(ValueError, match=r"no features x_<modality> and no item graphs.*rows='mean'"):
        model.extend(bare)
    assert model.extend(bare, rows="mean").num_items == 41
    with pytest.raises(ValueError, match="SEA was built for"):
        SEA.from_data(large).extend(view)

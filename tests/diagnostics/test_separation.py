from __future__ import annotations

import copy
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.diagnostics import SeparationReport, cosine_alignment, information_bounds, separation_report
from pyg_mmrec.models import BPRMF, SEA, Recommender, Representations
from pyg_mmrec.transforms import ModalKNNGraph
from pyg_mmrec.typing import INTERACTS, Triplets

NUM_ITEMS = 400
Parts = dict[str, Tensor]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Told(Recommender):
    """Has the parts that it is told."""

    def __init__(self, generic: Parts | None, unique: Parts | None) -> None:
        super().__init__(2, NUM_ITEMS)
        self.told = generic, unique

    def forward(self, data: HeteroData) -> Representations:
        assert not self.training
        generic, unique = self.told
        return Representations(torch.zeros(2, 3), torch.zeros(NUM_ITEMS, 3), generic=generic, unique=unique)

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        return {}


class ToldHalves(Told):
    def parts(self, data: HeteroData) -> tuple[Parts, Parts]:
        return tuple(
            {m: torch.cat([10 * normal(NUM_ITEMS, 35, seed=8), x], 1) for m, x in p.items()} for p in self.told
        )


@pytest.fixture(autouse=True)
def small_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps of few items, which take less time."""
    monkeypatch.setattr("pyg_mmrec.diagnostics.separation.MAP_ITEMS", 40)


@pytest.fixture
def data() -> HeteroData:
    """Two users, and items with a colour of four and a size of three."""
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 2, NUM_ITEMS
    data[INTERACTS].edge_index = torch.tensor([[0, 1], [0, 1]])
    for seed, (name, number) in enumerate({"colour": 4, "size": 3}.items()):
        data["item"][f"attr_{name}"] = torch.randint(
            number, (NUM_ITEMS,), generator=torch.Generator().manual_seed(seed)
        )
    return data


def separated(data: HeteroData, modalities: tuple[str, ...] = ("image", "text")) -> tuple[Parts, Parts]:
    """Generic parts that show the colour and are alike in all modalities, unique parts that show the size."""
    colour, size = (torch.eye(4)[data["item"][f"attr_{name}"]] for name in ("colour", "size"))
    generic = colour @ normal(4, 8, seed=1) + 0.1 * normal(NUM_ITEMS, 8, seed=2)
    unique = {
        name: size @ normal(4, 8, seed=k) + 0.1 * normal(NUM_ITEMS, 8, seed=9 + k) for k, name in enumerate(modalities)
    }
    return {name: generic + 0.05 * normal(NUM_ITEMS, 8, seed=k) for k, name in enumerate(modalities)}, unique


def mixed() -> tuple[Parts, Parts]:
    """Parts that show nothing, the unique a noisy copy of the generic."""
    generic = {"image": normal(NUM_ITEMS, 8, seed=20), "text": normal(NUM_ITEMS, 8, seed=21)}
    return generic, {name: x + 0.5 * normal(NUM_ITEMS, 8, seed=22) for name, x in generic.items()}


def test_report_tells_separated_parts_from_mixed_ones(data: HeteroData) -> None:
    report = separation_report(Told(*separated(data)), data, control=Told(*mixed()))
    assert isinstance(report, SeparationReport)
    table = report.probes.set_index(["model", "part", "attribute"])["accuracy"].sort_index()
    for part, told, hidden in (("generic", "colour", "size"), ("unique", "size", "colour")):
        assert (table["trained", part, told] > 0.99).all()
        assert (table["trained", part, hidden] < 0.45).all()
        assert (table["control", part] < 0.45).all()
    bounds = report.information.set_index("model")
    assert (bounds.loc["trained", "lower"] < 0.1).all()
    assert (bounds.loc["control", "lower"] > 2).all()
    assert (bounds.loc["trained", "upper"] < 0.2).all()
    assert (bounds.loc["control", "upper"] > 4).all()
    cosine = report.alignment.set_index("model")
    assert cosine.loc["trained", "same_item"] > 0.98
    assert cosine.loc["trained", "other_items"] < 0.5
    assert abs(cosine.loc["control", "same_item"]) < 4 / math.sqrt(8 * NUM_ITEMS)


def test_tables(data: HeteroData) -> None:
    generic, unique = separated(data)
    report = separation_report(Told(generic, unique), data, seed=3)
    probes = report.probes
    assert probes.columns.tolist() == ["model", "attribute", "modality", "part", "view", "accuracy", "chance"]
    assert len(probes) == probes[["attribute", "modality", "part"]].drop_duplicates().shape[0] == 8
    assert set(probes["view"]) == {"head"}
    share = np.bincount(data["item"].attr_size).max() / NUM_ITEMS
    assert (probes.loc[probes["attribute"] == "size", "chance"] == share).all()
    expected = [("trained", m, "head", *information_bounds(generic[m], unique[m], seed=3)) for m in generic]
    assert list(report.information.itertuples(index=False, name=None)) == expected
    expected = [("trained", "image", "text", *cosine_alignment(generic["image"], generic["text"]))]
    assert list(report.alignment.itertuples(index=False, name=None)) == expected
    assert report.tsne.columns.tolist() == ["model", "item", "modality", "part", "x", "y"]
    assert len(report.tsne) == 4 * 40
    items = [group["item"].tolist() for _, group in report.tsne.groupby(["modality", "part"])]
    assert items == 4 * [sorted(set(items[0]))]


def test_map_keeps_neighbours_together(data: HeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
    """An item's generic parts are alike in both modalities and land in the same place, its unique parts elsewhere."""
    monkeypatch.undo()  # the whole map
    report = separation_report(Told(*separated(data)), data)
    assert len(report.tsne) == 4 * 200
    place = {key: group[["x", "y"]].to_numpy() for key, group in report.tsne.groupby(["part", "modality"])}
    image, text, unique = place["generic", "image"], place["generic", "text"], place["unique", "image"]
    apart = np.linalg.norm(image - text, axis=1)
    assert np.median(apart) < 0.2 * np.median(np.linalg.norm(image - unique, axis=1))


def test_components_show_what_varies_most(data: HeteroData) -> None:
    """Behind 35 columns of large variance, the parts are not among the first 32 components."""
    told = separated(data)
    report = separation_report(ToldHalves(*told), data)
    accuracy = report.probes.set_index(["attribute", "part", "view"])["accuracy"]
    assert (accuracy["colour", "generic", "head"] > 0.99).all()
    assert (accuracy["colour", "generic", "components"] < 0.45).all()
    assert report.information["view"].tolist() == ["head", "head", "components", "components"]
    assert len(report.alignment) == 1
    assert len(report.tsne) == 4 * 40


@pytest.mark.parametrize("modalities", [("text",), ("audio", "image", "text")])
def test_any_number_of_modalities(data: HeteroData, modalities: tuple[str, ...]) -> None:
    report = separation_report(Told(*separated(data, modalities)), data)
    assert len(report.probes) == 4 * len(modalities)
    assert report.information["modality"].tolist() == list(modalities)
    assert len(report.alignment) == len(modalities) * (len(modalities) - 1) // 2
    assert report.alignment.columns.tolist() == ["model", "modality", "other", "same_item", "other_items"]


def test_items_without_a_modality_are_left_out(data: HeteroData) -> None:
    generic, unique = separated(data)
    data["item"].mask_image = torch.arange(NUM_ITEMS) % 4 > 0
    data["item"].mask_text = torch.arange(NUM_ITEMS) % 5 > 0
    report = separation_report(Told(generic, unique), data)
    damaged = {name: x.clone() for name, x in generic.items()}
    damaged["image"][~data["item"].mask_image] = torch.nan
    damaged["text"][~data["item"].mask_text] = 1e6
    for table, expected in zip(separation_report(Told(damaged, unique), data), report, strict=True):
        pd.testing.assert_frame_equal(table, expected)
    assert all(data["item"][f"mask_{row.modality}"][row.item] for row in report.tsne.itertuples())
    both = data["item"].mask_image & data["item"].mask_text
    expected_cosines = cosine_alignment(generic["image"][both], generic["text"][both])
    assert tuple(report.alignment[["same_item", "other_items"]].iloc[0]) == expected_cosines


def test_items_without_attributes(data: HeteroData, tmp_path: Path) -> None:
    model = Told(*separated(data))
    del data["item"].attr_colour, data["item"].attr_size
    report = separation_report(model, data, folder=tmp_path)
    assert len(report.probes) == 0
    assert "accuracy" in report.probes
    assert len(report.information) == 2
    assert not (tmp_path / "probes.png").exists()


def test_folder_holds_the_tables_and_plots(data: HeteroData, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "separation"
    report = separation_report(Told(*separated(data)), data, control=Told(*mixed()), folder=folder)
    names = {f"{name}.csv" for name in SeparationReport._fields} | {"probes.png", "tsne.png"}
    assert {path.name for path in folder.iterdir()} == names
    for name, table in report._asdict().items():
        pd.testing.assert_frame_equal(pd.read_csv(folder / f"{name}.csv"), table)
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in ("probes.png", "tsne.png"))


def test_plots_without_matplotlib(data: HeteroData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"^plots need matplotlib: pip install 'pyg-mmrec\[plot\]'$"):
        separation_report(Told(*separated(data)), data, folder=tmp_path / "report")
    assert list(tmp_path.iterdir()) == []


def test_parts_that_are_missing(data: HeteroData) -> None:
    generic, unique = separated(data)
    with pytest.raises(
        ValueError, match=r"^Told has not separated anything: its representations have no unique parts$"
    ):
        separation_report(Told(generic, None), data)
    with pytest.raises(ValueError, match=r"^BPRMF .* have no generic and no unique parts$"):
        separation_report(Told(generic, unique), data, control=BPRMF.from_data(data))
    with pytest.raises(ValueError, match=r"must be of the same modalities \(got image, text and image\)$"):
        separation_report(Told(generic, {"image": unique["image"]}), data)
    with pytest.raises(ValueError, match=r"^the unique part of 'text' holds values that are not finite$"):
        separation_report(Told(generic, {**unique, "text": unique["text"] / 0}), data)


def test_attributes_that_cannot_be_probed(data: HeteroData) -> None:
    data["item"].attr_brand = torch.full((NUM_ITEMS,), -1)
    with pytest.raises(
        ValueError, match=r"^attribute 'brand' of the items with 'image': 'y' needs two classes of 5 rows"
    ):
        separation_report(Told(*separated(data)), data)


def test_sea(tmp_path: Path) -> None:
    """Texture is told from images alone and material from texts alone, trained or not; nothing is left changed."""
    data = ModalKNNGraph()(AttributeShop(tmp_path, num_users=30, num_items=300)[0])
    torch.manual_seed(0)
    model = SEA.from_data(data, hidden_channels=8).train()
    state, generator = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    report = separation_report(model, data)
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    table = report.probes.set_index(["view", "modality", "attribute"])
    for seen, unseen, attribute in (("image", "text", "texture"), ("text", "image", "material")):
        assert (table.loc[("components", seen, attribute), "accuracy"] > 0.5).all()
        assert (table.loc[("components", unseen, attribute), "accuracy"] < 0.3).all()

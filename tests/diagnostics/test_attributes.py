from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.benchmark import prepare
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.diagnostics import AttributeReport, aspect_words, attribute_report, save_grid, traverse
from pyg_mmrec.models import MDR
from pyg_mmrec.nn import AttributeLayout
from pyg_mmrec.transforms import DropModality, WeakLabels
from pyg_mmrec.typing import ITEM


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> AttributeShop:
    return AttributeShop(str(tmp_path_factory.mktemp("shop")), num_users=60, num_items=150)


@pytest.fixture(scope="module")
def view(shop: AttributeShop) -> HeteroData:
    return prepare(WeakLabels(0.2)(copy.copy(shop[0])), [MDR])[0]


def build(view: HeteroData, **init_args: Any) -> MDR:
    torch.manual_seed(0)
    layout = AttributeLayout(AttributeShop.visible_in, {"colour": 8, "shape": 6}, num_black_box=1)
    model = MDR.from_data(view, **{"layout": layout, "word_channels": 16, "part_channels": 6, **init_args})
    assert isinstance(model, MDR)
    return model


def test_report(shop: AttributeShop, view: HeteroData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(view)
    parts = model.parts(view, torch.arange(150))
    parts["shape"] = torch.nn.functional.one_hot(shop[0]["item"].attr_shape, 6) + 0.01 * torch.randn(150, 6)
    monkeypatch.setattr(model, "parts", lambda data, item: parts)
    report = attribute_report(model, view, shop[0], num_users=5, folder=tmp_path)
    assert isinstance(report, AttributeReport)
    probes = report.probes.set_index(["attribute", "part"])
    assert len(probes) == 5 * 6
    assert probes.loc[("shape", "shape"), "accuracy"] == 1
    assert probes.loc[("colour", "shape"), "accuracy"] < 0.3
    assert abs(probes.loc[("shape", "shape"), "chance"] - 1 / 6) < 0.01
    hidden = view[ITEM].attr_colour < 0
    right = (model.labels(view)["colour"] == shop[0][ITEM].attr_colour)[hidden].double().mean()
    labels = report.labels.set_index("attribute")
    assert labels.loc["colour", "accuracy"] == pytest.approx(float(right))
    assert labels.loc["colour", "num_items"] == int(hidden.sum()) == 120
    measures = report.scores.set_index("measure")["value"]
    assert list(measures.index) == ["mutual information gap", "disentanglement", "completeness", "informativeness"]
    assert ((measures >= 0) & (measures <= 1)).all()
    assert report.shares["share"].sum() == pytest.approx(1)
    assert report.shares["part"].tolist() == model.attributes.names
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.csv", "probes.csv", "scores.csv", "shares.csv"]


def test_labels_of_items_without_the_modality_are_not_counted(shop: AttributeShop) -> None:
    data = DropModality(0.5, "image")(WeakLabels(0.2)(copy.copy(shop[0])))
    view = prepare(data, [MDR])[0]
    report = attribute_report(build(view), view, shop[0], num_users=5)
    hidden = (view[ITEM].attr_colour < 0) & view[ITEM].mask_image
    assert report.labels.set_index("attribute").loc["colour", "num_items"] == int(hidden.sum()) < 75


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_device(shop: AttributeShop, view: HeteroData) -> None:
    report = attribute_report(build(view).to("cuda"), copy.copy(view).to("cuda"), shop[0], num_users=5)
    assert report.shares["share"].sum() == pytest.approx(1)


def test_traverses_change_one_part_only(view: HeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
    model, decoded = build(view), []
    decoder = model.branch["image"].decoder.forward
    monkeypatch.setattr(model.branch["image"].decoder, "forward", lambda x: decoded.append(x) or decoder(x))
    pictures = traverse(model, view, item=3, attribute="shape", steps=5)
    assert pictures.shape == (5, 3, 32, 32)
    assert pictures.dtype == torch.uint8
    rows = decoded[-1].view(5, 4, 6)  # colour, shape, texture, black box
    own = torch.cat([part[3] for part in model.parts(view, torch.arange(150)).values()]).view(-1, 6)
    for place, part in ((0, 0), (2, 2), (3, 5)):
        torch.testing.assert_close(rows[:, place], own[part].expand(5, -1))
    assert rows[:, 1].unique(dim=0).size(0) == 5


def test_grid(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    rows = [torch.full((3, colours, 4, 6), 100, dtype=torch.uint8) for colours in (3, 3)]
    rows[1][2, 0] = 200
    save_grid(tmp_path / "grid.png", rows)
    image = (255 * imread(tmp_path / "grid.png")[..., :3]).round().astype(int)
    assert image.shape == (4 + 2 + 4, 6 + 2 + 6 + 2 + 6, 3)
    assert (image[:4, :6] == 100).all()
    assert (image[4:6] == 255).all()
    assert (image[6:, 16:, 0] == 200).all()
    save_grid(tmp_path / "grey.png", [torch.zeros(2, 1, 4, 4, dtype=torch.uint8)], margin=0)
    assert imread(tmp_path / "grey.png").shape[:2] == (4, 8)


@pytest.mark.parametrize("shapes", [[], [(2, 3, 4, 4), (1, 3, 4, 4)], [(2, 2, 4, 4)], [(3, 4, 4)]], ids=str)
def test_no_grid(tmp_path: Path, shapes: list[tuple[int, ...]]) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match=r"^'pictures' must be rows .* of one shape with 1 or 3 colours \(got \["):
        save_grid(tmp_path / "grid.png", [torch.zeros(shape, dtype=torch.uint8) for shape in shapes])
    assert not (tmp_path / "grid.png").exists()


def test_words_of_aspects(shop: AttributeShop, view: HeteroData) -> None:
    model = build(view)
    words = shop.vocabulary[: model.num_words]
    with torch.no_grad():
        model.branch["text"].aspect.copy_(3 * model.branch["text"].word[4:9])
    found = aspect_words(model, words, k=3)
    assert list(found) == ["colour", "shape", "material", "size", "black_box_0"]
    assert [near[0] for near in found.values()] == words[4:9]
    assert all(len(near) == 3 for near in found.values())


def test_bad_arguments(shop: AttributeShop, view: HeteroData, tiny_data: HeteroData) -> None:
    model = build(view)
    with pytest.raises(
        ValueError, match=r"^'attribute' must be one that pictures show, colour, shape, texture \(got 'size'"
    ):
        traverse(model, view, 0, "size")
    with pytest.raises(ValueError, match=r"^'item' must lie in 0..149 \(got 150\)$"):
        traverse(model, view, 150, "shape")
    with pytest.raises(ValueError, match=r"^'steps' must be at most the number of items, 150 \(got 151\)$"):
        traverse(model, view, 0, "shape", steps=151)
    with pytest.raises(ValueError, match=r"^'words' must be the .* words that the model reads \(got 1\)$"):
        aspect_words(model, [""])
    features = MDR.from_data(tiny_data)
    with pytest.raises(ValueError, match=r"^the model reads no pictures"):
        traverse(features, tiny_data, 0, "image_0")
    with pytest.raises(ValueError, match=r"^the model reads no words"):
        aspect_words(features, [""])
    with pytest.raises(ValueError, match=r"^'truth' has no labels"):
        attribute_report(features, tiny_data, tiny_data)
    with pytest.raises(ValueError, match=r"^'num_users' must be positive \(got 0\)$"):
        attribute_report(model, view, shop[0], num_users=0)

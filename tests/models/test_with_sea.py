from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import FREEDOM, VBPR, LightGCN, Recommender, WithSEA
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import modalities
from tests.models.model_tests import FeatureModelTests


class TestWithSEA(FeatureModelTests[WithSEA]):
    model_class = WithSEA
    init_args: ClassVar = {"base_args": {"hidden_channels": 16}, "estimator_lr": 3e-2, "estimator_steps": 10}

    def build(self, data: HeteroData, seed: int = 0, **init_args: Any) -> Recommender:
        if len(modalities(data)) == 1:
            init_args.setdefault("alignment", None)  # nothing to align with
        return super().build(data, seed, **init_args)

    @pytest.mark.parametrize("base", [VBPR, FREEDOM])
    def test_loss_adds_separate_learning(self, tiny_data: HeteroData, base: type[Recommender]) -> None:
        model = self.build(tiny_data, base=base.__name__).train()
        assert type(model.base_model) is base
        batch = self.batch(tiny_data)
        expected = model.base_model.loss(tiny_data, batch)
        twin = self.build(tiny_data, base=base.__name__).train()
        torch.manual_seed(1)
        expected |= twin.separate(twin.base_model.modal_items(tiny_data))
        torch.manual_seed(1)
        losses = model.loss(tiny_data, batch)
        assert list(losses) == list(expected)
        assert {"align", "distance_image", "distance_text"} < set(losses)
        for name, value in expected.items():
            torch.testing.assert_close(losses[name], value)

    @pytest.mark.parametrize("base", [VBPR, FREEDOM])
    def test_ranks_as_the_base_model(self, tiny_data: HeteroData, base: type[Recommender]) -> None:
        model = self.build(tiny_data, base=base.__name__)
        assert torch.equal(self.all_scores(model, tiny_data), self.all_scores(model.base_model, tiny_data))
        out = model(tiny_data)
        assert set(out.generic) == set(out.unique) == {"image", "text"}

    def test_modal_items(self, tiny_data: HeteroData) -> None:
        for base in (VBPR, FREEDOM):
            model = self.build(tiny_data, base=base.__name__).base_model
            modal = model.modal_items(tiny_data)
            assert {name: x.size(1) for name, x in modal.items()} == model.modal_channels == {"image": 16, "text": 16}
        vbpr = self.build(tiny_data).base_model
        total = sum(vbpr.modal_items(tiny_data).values())
        torch.testing.assert_close(total, vbpr(tiny_data).modal.item)

    def test_the_graph_of_an_epoch_is_the_base_models(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data, base="FREEDOM", base_args={"pruning": 0.5})
        view = model.resample(tiny_data, torch.Generator().manual_seed(0))
        assert view[INTERACTS].edge_index.size(1) == 100

    def test_trained_features_start_at_the_datas(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data, base="FREEDOM", base_args={"train_features": True})
        assert torch.equal(model.base_model.features["text"], tiny_data["item"].x_text)

    def test_unknown_base(self, tiny_data: HeteroData) -> None:
        with pytest.raises(ValueError, match=r"^'base': there is no model 'VPBR', did you mean 'VBPR'\?$"):
            self.build(tiny_data, base="VPBR")

    def test_arguments_that_the_base_does_not_have(self, tiny_data: HeteroData) -> None:
        with pytest.raises(ValueError, match=r"^'base_args' do not fit VBPR: .*'l3_weight'"):
            self.build(tiny_data, base_args={"l3_weight": 1.0})

    @pytest.mark.parametrize("base", ["LightGCN", "SEA"])
    def test_base_without_modal_items(self, tiny_data: HeteroData, base: str) -> None:
        with pytest.raises(ValueError, match=rf"^'base' must have representations of single modalities, .*{base} has"):
            self.build(tiny_data, base=base, base_args={"hidden_channels": 16})

    def test_models_without_modal_items(self, tiny_data: HeteroData) -> None:
        model = LightGCN.from_data(tiny_data)
        assert model.modal_channels == model.modal_items(tiny_data) == {}

    def test_fewer_modalities_reach_the_base_model(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data, in_channels={"text": 8}, alignment=None)
        assert model.base_model.config()["in_channels"] == {"text": 8}
        assert all(value.isfinite() for value in self.losses(model, tiny_data).values())

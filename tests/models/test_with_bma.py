from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import WithBMA
from tests.models.model_tests import FeatureModelTests


class TestWithBMA(FeatureModelTests[WithBMA]):
    model_class = WithBMA
    init_args: ClassVar = {"base_args": {"hidden_channels": 16}}

    def test_loss_adds_the_alignment(self, tiny_data: HeteroData) -> None:
        model, batch = self.build(tiny_data), self.batch(tiny_data)
        out = model.base_model(tiny_data)
        expected = model.base_model.loss(tiny_data, batch)
        expected |= model.alignment(tiny_data, batch, out.behavior, out.modal)
        losses = model.loss(tiny_data, batch)
        assert list(losses) == list(expected)
        for name, value in expected.items():
            torch.testing.assert_close(losses[name], value)

    def test_ranks_as_the_base_model(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data)
        assert torch.equal(self.all_scores(model, tiny_data), self.all_scores(model.base_model, tiny_data))

    def test_a_base_that_does_not_tell_the_two_apart(self, tiny_data: HeteroData) -> None:
        with pytest.raises(ValueError, match=r"^'base' must tell behaviour from modal .* \(LightGCN does not"):
            self.build(tiny_data, base="LightGCN")

    def test_a_plug_in_as_base(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data, base="WithSEA", base_args={"base": "BM3"})
        assert model.two_lines
        assert "intra_modal" in self.losses(model, tiny_data)
        with pytest.raises(ValueError, match=r"\(WithSEA does not"):
            self.build(tiny_data, base="WithSEA", base_args={"base": "FREEDOM"})

    def test_a_plug_in_is_no_model_of_its_own(self, tiny_data: HeteroData) -> None:
        with pytest.raises(ValueError, match="'base': there is no model 'PlugIn'"):
            self.build(tiny_data, base="PlugIn")

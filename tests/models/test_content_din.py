from __future__ import annotations

import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import ABAE, BetaVAE, DINPlus
from pyg_mmrec.nn import AspectBranch, ImageVAE
from tests.models.model_tests import FeatureModelTests


class TestABAE(FeatureModelTests[ABAE]):
    model_class = ABAE
    init_args = {"num_parts": 4}  # noqa: RUF012


class TestBetaVAE(FeatureModelTests[BetaVAE]):
    model_class = BetaVAE
    init_args = {"num_parts": 4, "kl_weight": 0.1}  # noqa: RUF012


class TestDINPlus(FeatureModelTests[DINPlus]):
    model_class = DINPlus
    init_args = {"num_parts": 4, "kl_weight": 0.1}  # noqa: RUF012

    def test_raw_content_is_read(self, tiny_data: HeteroData) -> None:
        """Pictures and words in place of features; items without either have no part in the losses of it."""
        tiny_data["item"].image = torch.randint(256, (30, 3, 8, 8), dtype=torch.uint8)
        tiny_data["item"].tokens = torch.randint(1, 13, (30, 6))
        tiny_data["item"].tokens[7] = 0
        tiny_data["item"].mask_image = torch.arange(30) != 5
        model = self.build(tiny_data, word_channels=8, part_channels=3)
        assert isinstance(model.branch["image"], ImageVAE)
        assert isinstance(model.branch["text"], AspectBranch)
        losses = self.losses(model, tiny_data)
        assert list(losses) == ["bce", "reconstruction", "kl", "aspects", "orthogonality"]
        torch.stack(list(losses.values())).sum().backward()
        assert model.branch["image"].decoder[0].weight.grad.any()
        item = model.eval()(tiny_data).item
        assert not item[5, :12].any()
        assert item[5, 12:].any()
        assert not item[7, 12:].any()
        assert self.all_scores(model, tiny_data).isfinite().all()

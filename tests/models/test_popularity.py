from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import Popularity
from pyg_mmrec.typing import INTERACTS
from tests.models.model_tests import ModelTests


class TestPopularity(ModelTests[Popularity]):
    model_class = Popularity
    init_args: ClassVar[dict[str, Any]] = {}
    trainable = False

    def test_scores_count_the_train_interactions(self, tiny_data: HeteroData) -> None:
        count = [0.0] * 30
        for item in tiny_data[INTERACTS].edge_index[1].tolist():
            count[item] += 1
        assert self.all_scores(self.build(tiny_data), tiny_data).tolist() == [count] * 40

    def test_held_out_edges_do_not_count(self, tiny_split: tuple[HeteroData, ...]) -> None:
        model = self.build(tiny_split[0])
        train, _, test = (self.all_scores(model, view) for view in tiny_split)
        assert torch.equal(train, test)

    def test_items_that_nobody_has_count_zero(self, tiny_data: HeteroData) -> None:
        tiny_data[INTERACTS].edge_index = torch.tensor([[0, 1], [3, 3]])
        assert self.build(tiny_data)(tiny_data).item.flatten().tolist() == [2.0 * (item == 3) for item in range(30)]

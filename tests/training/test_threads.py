"""What the number of threads changes: the rounding of sums that threads share, nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pyg_mmrec.benchmark import prepare
from pyg_mmrec.benchmark.prepare import Views
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.models import FREEDOM, SEA, VBPR, LightGCN, Recommender
from pyg_mmrec.training import Trainer, TrainResult
from pyg_mmrec.utils import with_operators

MODELS = [LightGCN, VBPR, FREEDOM, SEA]


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Views:
    """Large enough for torch to divide its work among threads."""
    folder: Path = tmp_path_factory.mktemp("shop")
    return prepare(AttributeShop(folder, num_users=1500, num_items=800)[0], MODELS)


def train(model_class: type[Recommender], views: Views, num_threads: int) -> tuple[Recommender, TrainResult]:
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        torch.manual_seed(0)
        model = model_class.from_data(views[0])
        trainer = Trainer(max_epochs=2, batch_size=4096, seed=0, accelerator="cpu", progress=False)
        return model, trainer.fit(model, *views)
    finally:
        torch.set_num_threads(before)


def losses(result: TrainResult) -> list[float]:
    return [value for row in result.history for name, value in row.items() if name.startswith("loss")]


@pytest.mark.parametrize("model_class", MODELS)
def test_a_seed_fixes_everything_and_threads_change_rounding(model_class: type[Recommender], views: Views) -> None:
    (one, one_result), (two, two_result), (again, again_result) = (train(model_class, views, n) for n in (1, 2, 2))
    for (name, weight), other in zip(two.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(weight, other), name
    assert losses(two_result) == losses(again_result)
    assert two_result.test == again_result.test
    assert losses(one_result) == pytest.approx(losses(two_result), rel=1e-4)
    # not the weights: where a gradient is zero but for rounding, as before a batch normalisation, Adam follows rounding
    with torch.no_grad():
        scores = [out.user @ out.item.t() for out in (model.eval()(with_operators(views[2])) for model in (one, two))]
    assert torch.linalg.vector_norm(scores[0] - scores[1]) < 1e-4 * torch.linalg.vector_norm(scores[1])

from __future__ import annotations

import pytest
import torch

from pyg_mmrec.utils.modes import evaluating


@pytest.mark.parametrize("training", [False, True])
def test_the_mode_comes_back(training: bool) -> None:
    model = torch.nn.Sequential(torch.nn.Dropout()).train(training)

    def fail() -> None:
        with evaluating(model):
            assert not any(module.training for module in model.modules())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert all(module.training == training for module in model.modules())

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.transforms import WeakLabels


@pytest.fixture
def labelled() -> HeteroData:
    data = HeteroData()
    data["item"].attr_colour = torch.arange(40) % 4
    data["item"].attr_size = torch.where(torch.arange(40) < 20, -1, torch.arange(40) % 3)
    data["item"].category = torch.arange(40)
    return data


def test_a_share_of_the_labels_stays(labelled: HeteroData) -> None:
    weak = WeakLabels(0.25, seed=1)(labelled)
    kept = weak["item"].attr_colour >= 0
    assert kept.sum() == 10
    assert torch.equal(weak["item"].attr_colour[kept], labelled["item"].attr_colour[kept])
    assert torch.equal(weak["item"].attr_size[kept], labelled["item"].attr_size[kept])
    assert (weak["item"].attr_size[~kept] == -1).all()
    assert torch.equal(weak["item"].category, labelled["item"].category)
    assert (labelled["item"].attr_colour >= 0).all()


def test_seeds_and_bounds(labelled: HeteroData) -> None:
    one, same, other = (WeakLabels(0.5, seed=seed)(labelled)["item"].attr_colour for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(WeakLabels(1)(labelled)["item"].attr_size, labelled["item"].attr_size)
    assert (WeakLabels(0)(labelled)["item"].attr_colour == -1).all()
    assert (WeakLabels(0.001)(labelled)["item"].attr_colour >= 0).sum() == 1


def test_chosen_attributes(labelled: HeteroData) -> None:
    weak = WeakLabels(0.5, ["size"])(labelled)
    assert (weak["item"].attr_size >= 0).sum() == 10  # of the 20 that have this label
    assert torch.equal(weak["item"].attr_colour, labelled["item"].attr_colour)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"share": 1.5}, r"^'share' must lie in \[0, 1\] \(got 1.5\)$"),
        ({"share": 0.5, "seed": -1}, r"^'seed' must not be negative \(got -1\)$"),
        ({"share": 0.5, "attributes": ["price"]}, r"^the items have no labels attr_<name> of \['price'\]"),
    ],
)
def test_bad_arguments(labelled: HeteroData, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WeakLabels(**kwargs)(labelled)

from __future__ import annotations

import copy

import pytest
import torch

from pyg_mmrec.training import LazyAdam
from pyg_mmrec.training.lazy_adam import sparse_gradients


class Both(torch.nn.Module):
    """A table and a matrix."""

    def __init__(self, sparse: bool) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(3000, 4, sparse=sparse)
        self.lin = torch.nn.Linear(4, 1)

    def loss(self, index: torch.Tensor) -> torch.Tensor:
        return (self.lin(self.table(index)) - 1).square().mean()


def steps(model: Both, optimizer: torch.optim.Optimizer, size: int = 4000) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        optimizer.zero_grad()
        model.loss(torch.randint(3000, (size,), generator=generator)).backward()
        optimizer.step()


def test_rows_are_updated_as_by_sparse_adam() -> None:
    torch.manual_seed(0)
    lazy = torch.nn.Embedding(3000, 4, sparse=True)
    known = copy.deepcopy(lazy)
    for table, cls in ((lazy, LazyAdam), (known, torch.optim.SparseAdam)):
        optimizer, generator = cls(table.parameters(), lr=0.1, eps=1e-16), torch.Generator().manual_seed(0)
        for _ in range(4):
            optimizer.zero_grad()
            table(torch.randint(3000, (2000,), generator=generator)).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(lazy.weight, known.weight)


def test_rows_of_all_are_updated_as_by_adam() -> None:
    torch.manual_seed(0)
    lazy = Both(sparse=True)
    known = Both(sparse=False)
    known.load_state_dict(lazy.state_dict())
    every = torch.arange(3000)
    for model, optimizer in ((lazy, LazyAdam(lazy.parameters())), (known, torch.optim.Adam(known.parameters()))):
        for _ in range(3):
            optimizer.zero_grad()
            model.loss(every).backward()
            optimizer.step()
    for one, two in zip(lazy.parameters(), known.parameters(), strict=True):
        torch.testing.assert_close(one, two)


def test_dense_gradients_are_those_of_adam() -> None:
    torch.manual_seed(0)
    lazy = Both(sparse=False)
    known = copy.deepcopy(lazy)
    steps(lazy, LazyAdam(lazy.parameters()))
    steps(known, torch.optim.Adam(known.parameters(), fused=True))
    assert all(map(torch.equal, lazy.parameters(), known.parameters()))


def test_the_state_goes_on() -> None:
    torch.manual_seed(0)
    whole = Both(sparse=True)
    first = copy.deepcopy(whole)
    optimizer = LazyAdam(whole.parameters())
    steps(whole, optimizer, 5)
    steps(whole, optimizer, 5)
    optimizer = LazyAdam(first.parameters())
    steps(first, optimizer, 5)
    state = copy.deepcopy(optimizer.state_dict())
    optimizer = LazyAdam(first.parameters())
    optimizer.load_state_dict(state)
    steps(first, optimizer, 5)
    assert all(map(torch.equal, whole.parameters(), first.parameters()))


def test_a_closure_is_called() -> None:
    model = Both(sparse=True)
    optimizer = LazyAdam(model.parameters(), lr=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model.loss(torch.tensor([1]))
        loss.backward()
        return loss

    assert optimizer.step(closure) > optimizer.step(closure)


@pytest.mark.parametrize("sparse", [False, True])
def test_tables_are_put_back(sparse: bool) -> None:
    model = torch.nn.ModuleList([torch.nn.Embedding(2, 1), torch.nn.Embedding(2, 1, sparse=True)])
    with sparse_gradients(model, sparse):
        assert [table.sparse for table in model] == [sparse, True]
    assert [table.sparse for table in model] == [False, True]

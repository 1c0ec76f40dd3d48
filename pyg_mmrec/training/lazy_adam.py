"""Adam that leaves rows without a gradient as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

#: Rows updated at a time: what is gathered for them stays in the processor's cache.
ROWS_AT_ONCE = 1024


class LazyAdam(torch.optim.Adam):
    r"""Adam whose step touches only the rows that have a gradient, where gradients are sparse.

    Of a table with a sparse gradient (:class:`torch.nn.Embedding` with ``sparse=True``), rows and moments of all other
    rows stay as they are, as in :class:`torch.optim.SparseAdam`: a step costs what its batch costs. Where every
    row has a gradient, a step is that of :class:`torch.optim.Adam`. Parameters with dense gradients are updated as by
    it, so one optimiser serves a model with both.

    Args:
        params: The parameters.
        lr: Learning rate (default: 1e-3).
        betas: Decay of the two moments (default: 0.9 and 0.999).
        eps: Added to the root of the second moment (default: 1e-8).

    Example:
        >>> table = torch.nn.Embedding(4, 2, sparse=True)
        >>> before, optimizer = table.weight.detach().clone(), LazyAdam(table.parameters())
        >>> table(torch.tensor([2, 2])).sum().backward()
        >>> optimizer.step()
        >>> (table.weight != before).any(1)
        tensor([False, False,  True, False])
    """

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step.

        Args:
            closure: Computes the loss anew, as everywhere in torch.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        held = [(p, p.grad) for group in self.param_groups for p in group["params"] if _is_sparse(p.grad)]
        for group in self.param_groups:
            for p in group["params"]:
                if _is_sparse(p.grad):
                    self._update_rows(group, p, p.grad.coalesce())
                    p.grad = None  # which the dense update passes over
        super().step()
        for p, grad in held:
            p.grad = grad
        return loss

    def _update_rows(self, group: dict[str, Any], p: Tensor, grad: Tensor) -> None:
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=p.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        state["step"] += 1
        (beta1, beta2), number = group["betas"], float(state["step"])
        first, second = state["exp_avg"], state["exp_avg_sq"]
        size, root = float(group["lr"]) / (1 - beta1**number), (1 - beta2**number) ** 0.5
        pieces = grad.indices()[0].split(ROWS_AT_ONCE), grad.values().split(ROWS_AT_ONCE)
        for row, value in zip(*pieces, strict=True):
            m = first.index_select(0, row).lerp_(value, 1 - beta1)
            v = second.index_select(0, row).mul_(beta2).addcmul_(value, value, value=1 - beta2)
            first.index_copy_(0, row, m)
            second.index_copy_(0, row, v)
            p.index_add_(0, row, m.div_(v.sqrt_().div_(root).add_(group["eps"])), alpha=-size)


def _is_sparse(grad: Tensor | None) -> bool:
    return grad is not None and grad.is_sparse


@contextmanager
def sparse_gradients(model: torch.nn.Module, sparse: bool = True) -> Iterator[None]:
    """Lets the embedding tables of a model have sparse gradients, then puts them back.

    Args:
        model: The model.
        sparse: Whether to do so.
    """
    tables = [part for part in model.modules() if isinstance(part, torch.nn.Embedding)] if sparse else []
    before = [table.sparse for table in tables]
    for table in tables:
        table.sparse = True
    try:
        yield
    finally:
        for table, kept in zip(tables, before, strict=True):
            table.sparse = kept

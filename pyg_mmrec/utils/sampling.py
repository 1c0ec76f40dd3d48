"""Random neighbours of some nodes, and operators over the edges to them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.utils import cumsum

from pyg_mmrec.utils.sparse import SparseOperator


def sample_neighbors(
    operator: SparseOperator, row: Tensor, num_neighbors: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Draws up to so many distinct sources of each target, all sets of them equally likely.

    Weights of a target with more sources than are drawn grow by the ratio of the two numbers, so that a weighted sum
    over the drawn sources is that over all in expectation.

    Args:
        operator: The graph.
        row: ``[n]`` targets.
        num_neighbors: How many to draw for each; -1 takes all.
        generator: Source of all randomness, on the CPU.

    Returns:
        For each edge drawn, ``[num_edges]`` each: which entry of ``row`` it reaches, its source, its weight.

    Example:
        >>> operator = SparseOperator.from_edge_index(torch.tensor([[0, 1, 2, 0], [0, 0, 0, 1]]), num_src=3, num_dst=2)
        >>> owner, col, value = sample_neighbors(operator, torch.tensor([1, 0]), 2, torch.Generator().manual_seed(0))
        >>> owner, value
        (tensor([0, 1, 1]), tensor([1.0000, 1.5000, 1.5000]))
    """
    start = operator.rowptr[row].long()
    count = operator.rowptr[row + 1].long() - start
    taken = count if num_neighbors < 0 else count.clamp(max=num_neighbors)
    ptr = cumsum(taken)
    owner = torch.arange(row.numel(), device=row.device).repeat_interleave(taken)
    place = torch.arange(owner.numel(), device=row.device) - ptr[owner]
    if (many := (count > taken).nonzero().flatten()).numel() and num_neighbors:
        ranks = _distinct_ranks(count[many], num_neighbors, generator)
        drawn = ptr[many] + torch.arange(num_neighbors, device=row.device).unsqueeze(1)  # [num_neighbors, n]
        place[drawn.flatten()] = ranks.flatten()
    entry = start[owner] + place
    scale = count / taken
    return owner, operator.col[entry].long(), operator.value[entry] * scale[owner].to(operator.value.dtype)


def _distinct_ranks(count: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """``[num, n]`` distinct numbers below each of ``count``, all larger than ``num``, by Floyd's algorithm.

    As :func:`pyg_mmrec.utils.negatives.distinct_ranks`, in memory that does not grow with ``count`` but time that is
    quadratic in ``num``.
    """
    uniform = torch.rand(num, count.numel(), generator=generator, dtype=torch.float64).to(count.device)
    rank = torch.empty(num, count.numel(), dtype=torch.long, device=count.device)
    for i in range(num):
        last = count - num + i
        drawn = (uniform[i] * (last + 1)).long().minimum(last)
        rank[i] = torch.where((rank[:i] == drawn).any(0), last, drawn)
    return rank


class Numbering:
    """Numbers nodes in the order in which they are met.

    Args:
        num_nodes: How many there are.
        device: Where they are.

    Example:
        >>> numbering = Numbering(5, torch.device('cpu'))
        >>> numbering.add(torch.tensor([4, 1, 4])), numbering.add(torch.tensor([1, 0]))
        (tensor([1, 4]), tensor([0]))
        >>> numbering.nodes(), numbering.local[torch.tensor([4, 0])]
        (tensor([1, 4, 0]), tensor([1, 2]))
    """

    def __init__(self, num_nodes: int, device: torch.device) -> None:
        self.local = torch.full((num_nodes,), -1, device=device)  #: ``[num_nodes]`` numbers, -1 for nodes not met
        self._met: list[Tensor] = []
        self.size = 0

    def add(self, node: Tensor) -> Tensor:
        """Numbers those that are new, and gives them, sorted."""
        is_new = torch.zeros(self.local.numel(), dtype=torch.bool, device=node.device)
        is_new[node[self.local[node] < 0]] = True
        new = is_new.nonzero().flatten()
        self.local[new] = torch.arange(self.size, self.size + new.numel(), device=node.device)
        self.size += new.numel()
        self._met.append(new)
        return new

    def nodes(self) -> Tensor:
        """The nodes by their numbers."""
        return torch.cat(self._met)


def coo_operator(row: Tensor, col: Tensor, value: Tensor, shape: tuple[int, int]) -> SparseOperator:
    """The operator of weights at given places; unlike :meth:`SparseOperator.from_edge_index`, without any check.

    Columns of a row stay in the order in which they come.
    """
    row, col, value = _by_row(row, col, value)
    pointers = cumsum(torch.bincount(row, minlength=shape[0])), cumsum(torch.bincount(col, minlength=shape[1]))
    _, row_t, value_t = _by_row(col, row, value)
    return SparseOperator(pointers[0].int(), col.int(), value, pointers[1].int(), row_t.int(), value_t, shape)


def _by_row(row: Tensor, col: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    perm = row.int().argsort(stable=True)
    return row[perm], col[perm], value[perm]

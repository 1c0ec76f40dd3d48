"""Top-k items for blocks of users, without the items that must not be recommended."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.utils import cumsum

from pyg_mmrec.typing import USER
from pyg_mmrec.utils.checks import check_int
from pyg_mmrec.utils.hetero import interactions, num_users_items


def seen_items(data: HeteroData) -> tuple[Tensor, Tensor]:
    """What may not be recommended to each user, in CSR form.

    A split writes it to ``data['user'].seen_ptr`` and ``seen_item``; on data without a split it is every item that
    the user has interacted with.

    Returns:
        ``[num_users + 1]`` pointers and ``[nnz]`` item indices.

    Raises:
        ValueError: If the data holds pointers of another number of users or items.
    """
    store = data[USER]
    num_users, num_items = num_users_items(data)
    if "seen_ptr" in store:
        ptr, seen = store.seen_ptr, store.get("seen_item")
        if seen is None or ptr.shape != (num_users + 1,) or int(ptr[-1]) != seen.numel():
            raise ValueError(
                f"data['user'].seen_ptr must be {num_users + 1} pointers into 'seen_item', one user's items after the "
                f"other's (got {list(ptr.shape)}); make the views with a split"
            )
        if seen.numel() and not 0 <= int(seen.min()) <= int(seen.max()) < num_items:
            raise ValueError(
                f"data['user'].seen_item must lie in 0..{num_items - 1} (got {int(seen.min())}..{int(seen.max())})"
            )
        return ptr, seen
    user, item = interactions(data)
    perm = (user * num_items + item).argsort()
    return cumsum(torch.bincount(user, minlength=num_users)), item[perm]


def csr_entries(ptr: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Where the entries of some CSR rows are.

    Args:
        ptr: ``[num_rows + 1]`` row pointers.
        rows: ``[n]`` the rows that are wanted; repeats allowed.

    Returns:
        For every entry of these rows, in order: its position in ``rows``, and its position in the CSR columns.

    Example:
        >>> csr_entries(torch.tensor([0, 2, 2, 3]), torch.tensor([2, 0]))
        (tensor([0, 1, 1]), tensor([2, 0, 1]))
    """
    start, count = ptr[rows], ptr[rows + 1] - ptr[rows]
    position = torch.arange(rows.numel(), device=rows.device).repeat_interleave(count)
    offset = torch.arange(position.numel(), device=rows.device) - (count.cumsum(0) - count)[position]
    return position, start[position] + offset


def rank_items(
    score: Callable[[Tensor, Tensor], Tensor],
    user: Tensor,
    k: int,
    num_items: int,
    seen: tuple[Tensor, Tensor] | None = None,
    *,
    block_size: int = 1024,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """The k best-scored items of each user, in blocks of users: memory is ``block_size * num_items``.

    Args:
        score: Called with ``[B]`` users and ``[num_items]`` items, returns fresh ``[B, num_items]`` scores in
            that order, which are overwritten.
        user: ``[n]`` the users to rank for.
        k: How many items a user gets, at most ``num_items``.
        num_items: Size of the catalogue.
        seen: CSR pointers and items that are left out, by user (see :func:`seen_items`).
        block_size: Users scored at a time.
        generator: If given, items are put in a random order first, so that equal scores fall in random order and
            no order of the catalogue is flattered.

    Returns:
        ``[n, k]`` scores and ``[n, k]`` item indices, best first. Where a user has fewer than k items left, the
        rest are left-out items with score ``-inf``.

    Raises:
        ValueError: If ``k`` or ``block_size`` is out of range, or a score is NaN.
    """
    check_int(0, k=k)
    check_int(1, block_size=block_size)
    if not 1 <= k <= num_items:
        raise ValueError(f"'k' must lie in 1..{num_items}, the number of items (got {k})")
    order = torch.arange(num_items) if generator is None else torch.randperm(num_items, generator=generator)
    order = order.to(user.device)
    place = order.argsort()  # item -> column
    all_scores, all_items = [], []
    for block in user.split(block_size):
        top, column = top_columns(score(block, order), block, k, seen, place)
        all_scores.append(top)
        all_items.append(order[column])
    if not all_scores:
        return torch.empty(0, k, device=user.device), torch.empty(0, k, dtype=torch.long, device=user.device)
    return torch.cat(all_scores), torch.cat(all_items)


def top_columns(
    scores: Tensor, user: Tensor, k: int, seen: tuple[Tensor, Tensor] | None, place: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The k best columns of each row of scores, without the items that a user has seen.

    Args:
        scores: ``[B, num_items]``, which are overwritten.
        user: ``[B]``, whose scores they are.
        k: How many.
        seen: CSR pointers and items that are left out, by user (see :func:`seen_items`); None for none.
        place: ``[num_items]``, the column of each item; None where item i is column i.

    Returns:
        ``[B, k]`` scores and ``[B, k]`` columns, best first; left-out ones have score ``-inf``.

    Raises:
        ValueError: If a score is NaN.
    """
    if seen is not None:
        row, entry = csr_entries(seen[0], user)
        item = seen[1][entry]
        scores[row, item if place is None else place[item]] = -torch.inf
    top, column = scores.topk(k)
    if top.isnan().any():
        raise ValueError(f"the scores of user {int(user[top.isnan().any(1)][0])} are NaN: the model has diverged")
    return top, column

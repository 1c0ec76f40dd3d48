"""Nearest neighbours by cosine similarity, in blocks."""

from __future__ import annotations

import math
from itertools import combinations_with_replacement
from typing import Literal

import torch
from torch import Tensor

from pyg_mmrec.utils.checks import check_choice, check_flag, check_int

#: Similarities held at a time when no block size is given (64 MiB).
_BLOCK_ELEMENTS = 2**24
#: Channels from which on a product costs more than the selections, so that it is taken once for both of its rows.
_WIDE = 1024


def usable_rows(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Marks the rows that have a direction: neither zero nor with a NaN or infinite value, and not masked out.

    Args:
        x: ``[num_nodes, channels]`` features.
        mask: ``[num_nodes]`` bool, false where a node has no features (default: all have).

    Example:
        >>> usable_rows(torch.tensor([[1.0, 2.0], [0.0, 0.0], [float("nan"), 1.0]]))
        tensor([ True, False, False])
    """
    peak = torch.linalg.vector_norm(x, ord=torch.inf, dim=1)
    usable: Tensor = peak.isfinite() & (peak > 0)
    return usable if mask is None else usable & mask


@torch.no_grad()
def knn(
    x: Tensor,
    k: int,
    *,
    mask: Tensor | None = None,
    block_size: int | None = None,
    include_self: bool = True,
    backend: Literal["torch", "faiss"] = "torch",
    precision: Literal["single", "bfloat16"] = "single",
    projection: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The k rows that are nearest to each row by cosine similarity, best first.

    The search is exact unless ``precision`` or ``projection`` say otherwise: then 4 k candidates are found in rounded
    or projected features, and the best k of them by their exact similarities. Rows that are zero, not finite or masked
    out have no neighbours and are nobody's neighbour. Beside the result, memory holds one normalised copy of ``x``,
    the rounded or projected one if there is any, and one block of similarities. Wide features are multiplied once for
    each pair of rows.

    With ``'torch'``, equal similarities fall to the lower index, whatever the block size; rounding may still set
    apart, in the last bit, similarities that are equal on paper. With ``'faiss'`` the order among equals is open.

    Args:
        x: ``[num_nodes, channels]`` floating-point features; compared in single precision.
        k: Neighbours of each row, at most ``num_nodes``.
        mask: ``[num_nodes]`` bool, false where a row is to be left out (default: none is).
        block_size: Rows that the ``'torch'`` search compares at a time (default: as many as fit 64 MiB).
        include_self: Whether a row is the first of its own k neighbours, as in the published graphs (default: True).
        backend: ``'torch'`` (default), on the device of ``x``, or ``'faiss'``, on CPU with the extra ``ann``.
        precision: ``'single'`` (default), or ``'bfloat16'`` to find candidates in, which pays where the processor
            multiplies it faster; only for ``'torch'``.
        projection: Width of a random projection to find candidates in (default: none); only for ``'torch'``.

    Returns:
        ``[num_nodes, k]`` int64 indices and ``[num_nodes, k]`` float32 similarities in [-1, 1]. Places that stay
        empty, in rows that are left out or because fewer than k others are usable, have index -1 and similarity
        ``-inf``.

    Raises:
        ValueError: If an argument is out of range or does not fit ``x``.
        ImportError: If ``backend='faiss'`` and faiss is not installed.

    Example:
        >>> x = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 4.0]])
        >>> index, similarity = knn(x, k=2)
        >>> index
        tensor([[0, 2],
                [1, 2],
                [2, 1]])
        >>> similarity
        tensor([[1.0000, 0.6000],
                [1.0000, 0.8000],
                [1.0000, 0.8000]])
    """
    _check_arguments(x, k, mask, block_size, include_self, backend)
    check_choice(("single", "bfloat16"), precision=precision)
    if projection is not None:
        check_int(1, projection=projection)
    if backend == "faiss" and (precision != "single" or projection is not None):
        raise ValueError("'precision' and 'projection' are for backend='torch': faiss searches exactly here")
    index = torch.full((x.size(0), k), -1, device=x.device)
    similarity = torch.full((x.size(0), k), -torch.inf, device=x.device)
    node = usable_rows(x, mask).nonzero().view(-1)
    num_others = min(k - include_self, node.numel() - 1)
    if num_others > 0:
        unit = _unit_rows(x[node])
        if backend == "faiss":
            found = _search_faiss(unit, num_others)
        elif precision == "single" and projection is None:
            found = _search_torch(unit, num_others, block_size)
        else:
            found = _search_reduced(unit, num_others, block_size, precision, projection)
        others = slice(int(include_self), num_others + include_self)
        index[node, others] = node[found[0]]
        similarity[node, others] = found[1].clamp_(-1, 1)
    if include_self:
        index[node, 0] = node
        similarity[node, 0] = 1.0
    return index, similarity


def _check_arguments(
    x: Tensor, k: int, mask: Tensor | None, block_size: int | None, include_self: bool, backend: str
) -> None:
    if x.dim() != 2 or x.size(1) == 0 or not x.is_floating_point():
        raise ValueError(f"'x' must be a [num_nodes, channels] float tensor (got {tuple(x.shape)}, {x.dtype})")
    check_int(0, k=k)
    if not 1 <= k <= x.size(0):
        raise ValueError(f"'k' must lie in 1..{x.size(0)}, the number of rows (got {k})")
    if mask is not None and (mask.dtype != torch.bool or mask.shape != x.shape[:1]):
        raise ValueError(f"'mask' must be bool of shape ({x.size(0)},) (got {mask.dtype}, {tuple(mask.shape)})")
    if block_size is not None:
        check_int(1, block_size=block_size)
    check_flag(include_self=include_self)
    check_choice(("torch", "faiss"), backend=backend)
    if backend == "faiss":
        _import_faiss()


def _unit_rows(x: Tensor) -> Tensor:
    """Scales usable rows, of which ``x`` is a private copy, to length one without overflow."""
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    x.div_(torch.linalg.vector_norm(x, ord=torch.inf, dim=1, keepdim=True))
    x = x.float()
    return x.div_(torch.linalg.vector_norm(x, dim=1, keepdim=True))


def _search_torch(unit: Tensor, k: int, block_size: int | None) -> tuple[Tensor, Tensor]:
    """The k best other rows of each row."""
    return (_search_wide if unit.size(1) >= _WIDE else _search_narrow)(unit, k, block_size)


def _search_narrow(unit: Tensor, k: int, block_size: int | None) -> tuple[Tensor, Tensor]:
    """By products of blocks of rows with all rows, and one selection for each row."""
    num_rows = unit.size(0)
    width = math.isqrt(num_rows // k)  # balances the two selections of _top
    num_columns = -(-num_rows // width) * width
    block_size = min(block_size or max(_BLOCK_ELEMENTS // num_columns, 1), num_rows)
    buffer = torch.full((block_size, num_columns), -torch.inf, device=unit.device)  # past num_rows they stay so
    index = torch.empty(num_rows, k, dtype=torch.long, device=unit.device)
    similarity = buffer.new_empty(num_rows, k)
    for start in range(0, num_rows, block_size):
        query = unit[start : start + block_size]
        block = buffer[: query.size(0)]
        _multiply(query, unit, block[:, :num_rows])
        block[:, start:].fill_diagonal_(-torch.inf)
        rows = slice(start, start + block_size)
        index[rows], similarity[rows] = _top(block, k, width)
    return index, similarity


def _search_wide(unit: Tensor, k: int, block_size: int | None) -> tuple[Tensor, Tensor]:
    """By half as many products: of blocks with blocks, each read by its rows and by its columns."""
    num_rows = unit.size(0)
    most = math.isqrt(_BLOCK_ELEMENTS)
    size = min(block_size or min(max(num_rows // 6, 256), most), num_rows)  # smaller ones select more than they save
    width = max(math.isqrt(size // k), 1)
    side = -(-size // width) * width
    tile = unit.new_empty(side, side, dtype=torch.float32)
    index = torch.zeros(num_rows, k, dtype=torch.long, device=unit.device)
    similarity = torch.full((num_rows, k), -torch.inf, device=unit.device)

    def select(start: int, first: int, scores: Tensor) -> None:
        """Keeps the k best of what was found for rows from ``start`` on and of columns from ``first`` on."""
        rows = slice(start, start + scores.size(0))
        place, value = _top(scores, k, width)
        value, order = torch.cat([similarity[rows], value], dim=1).sort(dim=1, descending=True, stable=True)
        index[rows] = torch.cat([index[rows], place + first], dim=1).gather(1, order[:, :k])
        similarity[rows] = value[:, :k]

    for start, first in combinations_with_replacement(range(0, num_rows, size), 2):  # a row's columns come in order
        rows, columns = unit[start : start + size], unit[first : first + size]
        tile.fill_(-torch.inf)
        _multiply(rows, columns, tile[: rows.size(0), : columns.size(0)])
        if start == first:
            tile.fill_diagonal_(-torch.inf)
        else:
            select(first, start, tile.t()[: columns.size(0)])
        select(start, first, tile[: rows.size(0)])
    return index, similarity


def _multiply(rows: Tensor, columns: Tensor, out: Tensor) -> None:
    """Writes the products of rows with rows, in single precision."""
    if rows.dtype == out.dtype:
        torch.mm(rows, columns.t(), out=out)
    else:
        out.copy_(rows @ columns.t())


def _search_reduced(
    unit: Tensor, k: int, block_size: int | None, precision: str, projection: int | None
) -> tuple[Tensor, Tensor]:
    """The k best other rows of each row among candidates that are the best in rounded or projected features."""
    reduced, num_candidates = unit, min(4 * k, unit.size(0) - 1)
    if projection is not None and projection < unit.size(1):
        directions = torch.randn(unit.size(1), projection, generator=torch.Generator().manual_seed(0))
        reduced = _unit_rows(unit @ directions.to(unit))
    if precision == "bfloat16":
        reduced = reduced.bfloat16()
    candidates = _search_torch(reduced, num_candidates, block_size)[0].sort(dim=1).values  # equal ones by index
    index, similarity = candidates[:, :k].clone(), unit.new_empty(unit.size(0), k)
    size = max(_BLOCK_ELEMENTS // (num_candidates * unit.size(1)), 1)
    for start in range(0, unit.size(0), size):
        rows = slice(start, start + size)
        exact = torch.einsum("bd,bcd->bc", unit[rows], unit[candidates[rows]])
        value, place = exact.sort(dim=1, descending=True, stable=True)
        similarity[rows], index[rows] = value[:, :k], candidates[rows].gather(1, place[:, :k])
    return index, similarity


def _top(scores: Tensor, k: int, width: int) -> tuple[Tensor, Tensor]:
    """The k largest scores of each row, equal ones by column.

    Only the k chunks of neighbouring columns with the largest maxima can hold one of them, so that most columns are
    read once and never sorted.
    """
    chunks = scores.unflatten(1, (-1, width))  # [B, num_chunks, width]
    chunk = chunks.amax(-1).sort(dim=1, descending=True, stable=True).indices[:, :k].sort(dim=1).values
    candidates = chunks.gather(1, chunk[:, :, None].expand(-1, -1, width)).flatten(1)  # [B, k * width]
    value, place = candidates.sort(dim=1, descending=True, stable=True)
    place = place[:, :k]
    return chunk.gather(1, place // width) * width + place % width, value[:, :k]


def _search_faiss(unit: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best other rows of each row, by faiss's exact inner-product index."""
    array = unit.cpu().numpy()
    flat = _import_faiss().IndexFlatIP(array.shape[1])
    flat.add(array)
    similarity, index = (torch.from_numpy(part) for part in flat.search(array, k + 1))
    similarity[index == torch.arange(len(array))[:, None]] = -torch.inf  # self goes last, or the worst is dropped
    similarity, order = similarity.sort(dim=1, descending=True, stable=True)
    return index.gather(1, order)[:, :k].to(unit.device), similarity[:, :k].to(unit.device)


def _import_faiss():  # type: ignore[no-untyped-def]
    try:
        import faiss
    except ImportError as error:
        raise ImportError("backend='faiss' needs faiss; install it with: pip install 'pyg-mmrec[ann]'") from error
    return faiss

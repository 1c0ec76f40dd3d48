"""The part of a graph that a batch's loss reads, by sampled neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.typing import INTERACTS, ITEM, USER, Reach, Triplets, similar
from pyg_mmrec.utils import interaction_operators, num_users_items, similarity_operators
from pyg_mmrec.utils.checks import check_flag, check_neighbors
from pyg_mmrec.utils.operators import OPERATOR, RETURN_OPERATOR
from pyg_mmrec.utils.sampling import Numbering, coo_operator, sample_neighbors
from pyg_mmrec.utils.sparse import SparseOperator

Edges = tuple[Tensor, Tensor, Tensor]


class SubgraphSampler:
    r"""Cuts out of a graph what a batch reads: its users and items, and some neighbours of these, hop by hop.

    A step then costs what its batch costs, however large the graph is. From each node of a hop up to ``neighbors``
    distinct neighbours are drawn, anew for each call; their weights grow such that the sums of messages are right in
    expectation. With all neighbours the representations of the batch's users and items are those of the whole graph.

    What is given is a data view that numbers its users and items anew: ``n_id`` holds their numbers in the graph,
    the batch's come first, and the batch is numbered alike. Node attributes stay whole; readers look rows up by
    ``n_id``. Representations of nodes other than the batch's lack a part of their neighbours and mean nothing.

    Args:
        reach: How far the model looks, its :meth:`~pyg_mmrec.models.Recommender.reach`.
        neighbors: How many neighbours to draw over the interactions, for each hop or one number for all; -1 takes all.
            Of the items' similarity graphs, which have few, all are taken.
        drop_targets: Whether messages pass over none of the batch's own interactions (default: False, as training on
            the whole graph does).

    Raises:
        ValueError: If an argument is out of range or ``neighbors`` has other hops than the model.

    Example:
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 3, 3
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 0, 1, 2], [0, 1, 1, 2]])
        >>> batch = Triplets(torch.tensor([1]), torch.tensor([1]), torch.tensor([0]))
        >>> sampler = SubgraphSampler(Reach(interactions=1), neighbors=-1)
        >>> view, local = sampler(data, batch, torch.Generator().manual_seed(0))
        >>> view['user'].n_id, view['item'].n_id, local.pos_item
        (tensor([1, 0]), tensor([0, 1]), tensor([1]))
    """

    def __init__(self, reach: Reach, neighbors: int | Sequence[int], drop_targets: bool = False) -> None:
        hops = [neighbors] * reach.interactions if isinstance(neighbors, int) else list(neighbors)
        for number in [neighbors] if isinstance(neighbors, int) else hops:
            check_neighbors(number)
        if len(hops) != reach.interactions:
            raise ValueError(
                f"'neighbors' must be one number or one for each of the model's {reach.interactions} layers over the "
                f"interactions (got {neighbors})"
            )
        check_flag(drop_targets=drop_targets)
        self.reach, self.neighbors, self.drop_targets = reach, hops, drop_targets

    def __call__(self, data: HeteroData, batch: Triplets, generator: torch.Generator) -> tuple[HeteroData, Triplets]:
        """The view, and the batch in its numbers; both as they are where the model passes no messages.

        Args:
            data: The graph; best with its operators (:func:`~pyg_mmrec.utils.with_operators`).
            batch: The batch, in the graph's numbers.
            generator: Source of all randomness, on the CPU.
        """
        if not any(self.reach):
            return data, batch
        device = batch.user.device
        users, items = (Numbering(size, device) for size in num_users_items(data))
        first = users.add(batch.user), items.add(torch.cat([batch.pos_item, batch.neg_item]))
        to_item, to_user = self._interactions(data, users, items, first, generator)
        graphs = self._similar_items(data, items, first[1], generator)
        local = Triplets(users.local[batch.user], items.local[batch.pos_item], items.local[batch.neg_item])
        if self.drop_targets:
            to_item = _without(to_item, local.pos_item, local.user, users.size)
            to_user = _without(to_user, local.user, local.pos_item, items.size)
        view = _nodes(data, users, items)
        store, sizes = view[INTERACTS], (items.size, users.size)
        store.edge_index = torch.stack([to_item[1], to_item[0]])
        store[OPERATOR], store[RETURN_OPERATOR] = coo_operator(*to_item, sizes), coo_operator(*to_user, sizes[::-1])
        for name, edges in graphs.items():
            view[similar(ITEM, name)][OPERATOR] = coo_operator(*edges, (items.size, items.size))
        return view, local

    def _interactions(
        self,
        data: HeteroData,
        users: Numbering,
        items: Numbering,
        first: tuple[Tensor, Tensor],
        generator: torch.Generator,
    ) -> tuple[Edges, Edges]:
        """The edges to items and those to users that are drawn, in the numbers of the view."""
        operators = interaction_operators(data)
        user, item = first
        to_item, to_user = [], []
        for number in self.neighbors:
            found_item = _draw(operators[1], user, number, generator)
            found_user = _draw(operators[0], item, number, generator)
            to_user.append(found_item)
            to_item.append(found_user)
            user, item = users.add(found_user[1]), items.add(found_item[1])
        return _numbered(to_item, items, users), _numbered(to_user, users, items)

    def _similar_items(
        self, data: HeteroData, items: Numbering, item: Tensor, generator: torch.Generator
    ) -> dict[str, Edges]:
        """The edges of each similarity graph within the items' reach, in the numbers of the view."""
        if not self.reach.similar_items:
            return {}
        graphs = similarity_operators(data)
        found: dict[str, list[Edges]] = {name: [] for name in graphs}
        reached = Numbering(items.local.numel(), item.device)
        reached.add(item)
        for _ in range(self.reach.similar_items):
            for name, graph in graphs.items():
                found[name].append(_draw(graph, item, -1, generator))
            item = reached.add(torch.cat([edges[-1][1] for edges in found.values()]))
            items.add(item)
        return {name: _numbered(edges, items, items) for name, edges in found.items()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(neighbors={self.neighbors}, drop_targets={self.drop_targets})"


def _draw(graph: SparseOperator, row: Tensor, number: int, generator: torch.Generator) -> Edges:
    """Edges to the rows, in the numbers of the graph: row, column, weight."""
    owner, col, value = sample_neighbors(graph, row, number, generator)
    return row[owner], col, value


def _numbered(parts: list[Edges], rows: Numbering, cols: Numbering) -> Edges:
    if not parts:
        none = rows.local[:0]
        return none, none, none.float()
    row, col, value = (torch.cat(column) for column in zip(*parts, strict=True))
    return rows.local[row], cols.local[col], value


def _without(edges: Edges, row: Tensor, col: Tensor, num_cols: int) -> Edges:
    """The edges but those at given places."""
    kept = ~torch.isin(edges[0] * num_cols + edges[1], row * num_cols + col)
    return edges[0][kept], edges[1][kept], edges[2][kept]


def _nodes(data: HeteroData, users: Numbering, items: Numbering) -> HeteroData:
    """A view with the nodes that are numbered, and all attributes of the graph's."""
    view = HeteroData()
    for node_type, numbering in ((USER, users), (ITEM, items)):
        for key, value in data[node_type].items():
            view[node_type][key] = value
        view[node_type].num_nodes, view[node_type].n_id = numbering.size, numbering.nodes()
        view[node_type].num_rows = numbering.local.numel()
    return view

"""Item-item graphs that are learned from modal features."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.nn.projection import ModalProjection
from pyg_mmrec.typing import ITEM, EdgeType
from pyg_mmrec.utils import (
    SparseOperator,
    edge_scores,
    edge_sum,
    item_features,
    knn,
    modality_masks,
    similarity_operators,
    unit_rows,
    usable_rows,
)
from pyg_mmrec.utils.checks import check_int, check_part

#: Key under which :meth:`LatentStructure.with_neighbors` keeps the neighbours on an edge store.
NEIGHBORS = "neighbors"


@dataclass(frozen=True, eq=False)
class LatentGraph:
    r"""A frozen graph and a learned one, :math:`\lambda \tilde{\mathbf{S}} + (1 - \lambda) \tilde{\mathbf{A}}`.

    ``graph @ x`` is differentiable in ``x`` and in the learned weights.

    Attributes:
        frozen: The graph of the raw features.
        learned: Who is whose neighbour in the learned graph; its own weights are not read.
        weight: ``[num_edges]`` similarities of these neighbours.
        scale: ``[num_nodes, 1]``, one over the root of the sum of each node's similarities.
        frozen_weight: :math:`\lambda`.
    """

    frozen: SparseOperator
    learned: SparseOperator
    weight: Tensor
    scale: Tensor
    frozen_weight: float

    def __matmul__(self, x: Tensor) -> Tensor:
        """Weighted sums of ``[num_nodes, channels]`` features over each node's neighbours."""
        learned = self.scale * edge_sum(self.learned, self.weight, self.scale * x)
        return self.frozen_weight * (self.frozen @ x) + (1 - self.frozen_weight) * learned


class LatentStructure(torch.nn.Module):
    r"""One item-item graph for each modality, between the frozen graph of the data and one of projected features.

    From `"Mining Latent Structures for Multimedia Recommendation" <https://arxiv.org/abs/2104.09036>`_:

    .. math::
        \tilde{\mathbf{X}}_m = \mathbf{X}_m \mathbf{W}_m + \mathbf{b}_m, \quad
        A_{m,ij} = \begin{cases} \max(0, \cos(\tilde{\mathbf{x}}_{m,i}, \tilde{\mathbf{x}}_{m,j})) &
        j \in \mathrm{kNN}(i) \\ 0 & \text{else} \end{cases}, \quad
        \tilde{\mathbf{A}}_m = \mathbf{D}_m^{-1/2} \mathbf{A}_m \mathbf{D}_m^{-1/2}, \quad
        \mathbf{A}'_m = \lambda \tilde{\mathbf{S}}_m + (1 - \lambda) \tilde{\mathbf{A}}_m

    Who is whose neighbour is found by :meth:`find_neighbors`, once for a data view (:meth:`with_neighbors`) or, where
    the data holds none, in each call. The weights of the neighbours are computed in each call and pass gradients on to
    the projections.

    Args:
        num_items: Number of items.
        in_channels: Width of each modality's features.
        out_channels: Width of the projections.
        num_neighbors: k, the item itself included.
        frozen_weight: :math:`\lambda`, from 0 to below 1.

    Shapes:
        - **input:** the data, with a frozen graph for each modality
        - **output:** a :class:`LatentGraph` for each modality

    Raises:
        ValueError: If an argument is out of range; in ``forward``, if the data's item-item graphs are of other
            modalities than the features.
    """

    neighbors: Tensor

    def __init__(
        self,
        num_items: int,
        in_channels: dict[str, int],
        out_channels: int,
        num_neighbors: int = 10,
        frozen_weight: float = 0.7,
    ) -> None:
        super().__init__()
        check_int(1, num_neighbors=num_neighbors)
        check_part(frozen_weight=frozen_weight)
        if num_neighbors > num_items:
            raise ValueError(f"'num_neighbors' must be at most {num_items}, the number of items (got {num_neighbors})")
        self.num_neighbors = num_neighbors
        self.frozen_weight = frozen_weight
        self.projection = ModalProjection(in_channels, out_channels)
        # A buffer, so that an epoch that was stopped goes on with the neighbours it had.
        self.register_buffer("neighbors", torch.full((len(in_channels), num_items, num_neighbors), -1))

    def reset_parameters(self) -> None:
        """Draws the projections anew and forgets the neighbours."""
        self.projection.reset_parameters()
        self.neighbors.fill_(-1)

    @torch.no_grad()
    def find_neighbors(self, data: HeteroData, projected: dict[str, Tensor] | None = None) -> Tensor:
        """The nearest items in each modality by the projections as they are now.

        Args:
            data: The graph.
            projected: The projected features, where they are known already.

        Returns:
            ``[num_modalities, num_items, num_neighbors]``, -1 where there are fewer: items without a modality, or with
            a row of zeros, have no neighbours and are nobody's.
        """
        masks, found = modality_masks(data, list(self.projection.in_channels)), []
        for name, z in (projected or self.projection(data)).items():
            x = item_features(data, name, self.projection.in_channels[name])
            found.append(knn(z, self.num_neighbors, mask=usable_rows(x, masks.get(name)))[0])
        return torch.stack(found)

    def hold_neighbors(self, data: HeteroData) -> None:
        """Keeps the neighbours of now for :meth:`with_neighbors`."""
        self.neighbors.copy_(self.find_neighbors(data))

    def with_neighbors(self, data: HeteroData) -> HeteroData:
        """A shallow copy of the data that holds the neighbours that were kept, or those of now if none were."""
        kept = self.neighbors if bool((self.neighbors >= 0).any()) else self.find_neighbors(data)
        view = copy.copy(data)
        for name, index in zip(self.projection.in_channels, kept, strict=True):
            view[_latent(name)][NEIGHBORS] = _operator(index)
        return view

    def forward(self, data: HeteroData) -> dict[str, LatentGraph]:
        """The graph of each modality."""
        frozen = similarity_operators(data, names=list(self.projection.in_channels))
        projected = self.projection(data)
        patterns = self._patterns(data, projected)
        graphs = {}
        for name, z in projected.items():
            unit = unit_rows(z)
            weight = edge_scores(patterns[name], unit, unit).relu()
            degree = edge_sum(patterns[name], weight, weight.new_ones(z.size(0), 1))
            scale = torch.where(degree > 0, degree, 1.0).rsqrt()
            graphs[name] = LatentGraph(frozen[name], patterns[name], weight, scale, self.frozen_weight)
        return graphs

    def _patterns(self, data: HeteroData, projected: dict[str, Tensor]) -> dict[str, SparseOperator]:
        if all(_latent(name) in data.edge_types for name in projected):
            return {name: data[_latent(name)][NEIGHBORS] for name in projected}
        found = self.find_neighbors(data, projected)
        return {name: _operator(index) for name, index in zip(projected, found, strict=True)}


def _latent(name: str) -> EdgeType:
    return (ITEM, f"latent_{name}", ITEM)


def _operator(index: Tensor) -> SparseOperator:
    """From ``[num_items, k]`` neighbours, -1 where an item has fewer."""
    item, place = (index >= 0).nonzero().unbind(1)
    edge_index = torch.stack([index[item, place], item])
    return SparseOperator.from_edge_index(edge_index, num_src=index.size(0), num_dst=index.size(0))

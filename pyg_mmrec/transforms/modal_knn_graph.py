"""Item-item and user-user graphs of similar features."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform
from torch_geometric.utils import to_undirected

from pyg_mmrec.transforms._modalities import check_modalities, choose_modalities, read_features
from pyg_mmrec.typing import ITEM, USER, NodeType, Normalization, similar
from pyg_mmrec.utils import modalities as modality_names
from pyg_mmrec.utils import normalized_weight, num_users_items, similar_modalities
from pyg_mmrec.utils.checks import check_choice, check_flag, check_int
from pyg_mmrec.utils.knn import knn


class ModalKNNGraph(BaseTransform):
    r"""Links every node to the k nodes with the most similar features, one graph for each modality.

    The frozen graphs of `"A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal
    Recommendation" <https://arxiv.org/abs/2211.06924>`_ (Eq. 1 to 3): cosine similarity, top k, then weight one. Edges
    ``(node, similar_<modality>, node)`` lead from a neighbour (row 0) to the node whose neighbour it is (row 1).

    Nodes without usable features (``mask_<modality>`` false, zero or non-finite rows) get no edges and are nobody's
    neighbour; one warning counts them. Graphs that the data already has are kept.

    Args:
        k: Neighbours of each node (default: 10, the paper's).
        node_type: ``'item'`` (default) or ``'user'``.
        modalities: Names of the modalities (default: all that the node type has).
        weighted: Whether an edge weighs its cosine similarity, where only positive ones are kept as edges, or one
            (default: False, as in the paper).
        normalization: ``'row'`` divides by the sum over a node's neighbours, 1/k without weights: the published form,
            which normalises a directed graph by row sums only. ``'sym'`` is
            :math:`\mathbf{D}^{-1/2} \mathbf{A} \mathbf{D}^{-1/2}` of the undirected graph: it keeps an edge where
            either node is among the other's neighbours, with the larger weight. ``'none'`` leaves the weights
            (default: ``'row'``).
        include_self: Whether a node is the first of its own k neighbours (default: True, as in the published graphs).
        backend: ``'torch'`` (default) or ``'faiss'``, see :func:`pyg_mmrec.utils.knn`.
        precision: ``'single'`` (default), or ``'bfloat16'`` for a faster search that may miss neighbours, see there.
        projection: Width of a random projection for a faster search that may miss neighbours (default: none), see
            there.
        overwrite: Whether graphs that the data already has are built anew (default: False).

    Raises:
        ValueError: If an argument is out of range; when applied, if a modality is unknown, there is none, its
            features do not fit the nodes, or there are fewer than k nodes.
        ImportError: When applied, if ``backend='faiss'`` and faiss is not installed.

    Example:
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 1, 3
        >>> data['item'].x_text = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 4.0]])
        >>> graph = ModalKNNGraph(k=2)(data)['item', 'similar_text', 'item']
        >>> graph.edge_index
        tensor([[0, 2, 1, 2, 2, 1],
                [0, 0, 1, 1, 2, 2]])
        >>> graph.edge_weight
        tensor([0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000])
    """

    def __init__(
        self,
        k: int = 10,
        *,
        node_type: NodeType = ITEM,
        modalities: Sequence[str] | None = None,
        weighted: bool = False,
        normalization: Normalization = "row",
        include_self: bool = True,
        backend: Literal["torch", "faiss"] = "torch",
        precision: Literal["single", "bfloat16"] = "single",
        projection: int | None = None,
        overwrite: bool = False,
    ) -> None:
        check_int(1, k=k)
        check_choice((USER, ITEM), node_type=node_type)
        check_choice(("torch", "faiss"), backend=backend)
        check_choice(("single", "bfloat16"), precision=precision)
        if projection is not None:
            check_int(1, projection=projection)
        check_choice(("sym", "row", "none"), normalization=normalization)
        check_flag(weighted=weighted, include_self=include_self, overwrite=overwrite)
        self.k = k
        self.node_type = node_type
        self.modalities = check_modalities(modalities)
        self.weighted = weighted
        self.normalization: Normalization = normalization
        self.include_self = include_self
        self.backend: Literal["torch", "faiss"] = backend
        self.precision: Literal["single", "bfloat16"] = precision
        self.projection = projection
        self.overwrite = overwrite

    def on(self, node_type: NodeType) -> ModalKNNGraph:
        """The same transform on a node type."""
        other = copy.copy(self)
        other.node_type = node_type
        return other

    def forward(self, data: HeteroData) -> HeteroData:
        """Builds the graphs that are wanted and not there."""
        num_nodes = num_users_items(data)[self.node_type == ITEM]
        kept = [] if self.overwrite else similar_modalities(data, self.node_type)
        known = sorted({*modality_names(data, self.node_type), *kept})
        names = [name for name in choose_modalities(self.modalities, known, self.node_type) if name not in kept]
        if names and self.k > num_nodes:
            raise ValueError(f"'k' must be at most {num_nodes}, the number of {self.node_type}s (got {self.k})")
        features = {name: read_features(data, self.node_type, name) for name in names}
        for note in self._notes(features):
            warnings.warn(note, stacklevel=3)
        for name, (x, usable) in features.items():
            edge_type = similar(self.node_type, name)
            if edge_type in data.edge_types:
                del data[edge_type]
            data[edge_type].edge_index, data[edge_type].edge_weight = self._graph(x, usable)
        return data

    def _graph(self, x: Tensor, usable: Tensor) -> tuple[Tensor, Tensor]:
        """Edges and weights of one modality."""
        num_nodes = x.size(0)
        index, similarity = knn(
            x,
            self.k,
            mask=usable,
            include_self=self.include_self,
            backend=self.backend,
            precision=self.precision,
            projection=self.projection,
        )
        found = similarity > 0 if self.weighted else index >= 0
        edge_index = torch.stack([index[found], found.nonzero()[:, 0]])
        weight = similarity[found] if self.weighted else torch.ones_like(similarity[found])
        if self.normalization == "sym":
            edge_index, weight = to_undirected(edge_index, weight, num_nodes, reduce="max")
        return edge_index, normalized_weight(edge_index, num_nodes, num_nodes, weight, self.normalization)

    def _notes(self, features: dict[str, tuple[Tensor, Tensor]]) -> list[str]:
        """What is odd about the features."""
        notes = []
        missing = {name: int((~usable).sum()) for name, (_, usable) in features.items()}
        if any(missing.values()):
            counts = ", ".join(f"{count} of {name!r}" for name, count in missing.items() if count)
            notes.append(
                f"{self.node_type}s without usable features (masked, zero or not finite) get no edges: {counts}"
            )
        for name, (x, usable) in features.items():
            if int(usable.sum()) > 1 and bool((x == x[usable.int().argmax()]).all(1)[usable].all()):
                notes.append(f"all {self.node_type}s have the same {name!r} features: their neighbours mean nothing")
        return notes

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(k={self.k}, node_type={self.node_type!r}, modalities={self.modalities}, "
            f"weighted={self.weighted}, normalization={self.normalization!r}, include_self={self.include_self}, "
            f"backend={self.backend!r}, precision={self.precision!r}, projection={self.projection}, "
            f"overwrite={self.overwrite})"
        )

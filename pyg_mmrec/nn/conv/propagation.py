"""Message passing without parameters: weighted sums over neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.nn import MessagePassing
from torch_geometric.typing import SparseTensor
from torch_geometric.utils import spmm

from pyg_mmrec.utils import SparseOperator, layer_mean

#: What the layers of this module pass messages over: see :class:`PropagationConv`.
Graph: TypeAlias = SparseOperator | Tensor | EdgeIndex | SparseTensor


class PropagationConv(MessagePassing):
    r"""Sums the weighted features of each node's neighbours, on square and rectangular graphs.

    .. math::
        \mathbf{x}^{\prime}_i = \sum_{j \in \mathcal{N}(i)} w_{ji} \mathbf{x}_j

    The graph may be

    * a :class:`~pyg_mmrec.utils.SparseOperator` (the fast path: one product, its transpose stored for the backward
      pass),
    * an ``edge_index`` of shape ``[2, num_edges]`` (sources, targets), plain or as
      :class:`~torch_geometric.EdgeIndex`, with ``edge_weight``; this path compiles and feeds explainers,
    * a :class:`torch_sparse.SparseTensor` or a :class:`torch.Tensor` in CSR layout, both ``[num_dst, num_src]`` as
      PyG's ``adj_t``.

    Outputs and gradients are equal for all of them.

    Shapes:
        - **input:** ``[num_src, channels]`` node features, graph
        - **output:** ``[num_dst, channels]``

    Example:
        >>> conv = PropagationConv()
        >>> edge_index = torch.tensor([[0, 1, 1], [0, 0, 2]])
        >>> conv(torch.tensor([[1.0], [10.0]]), edge_index, size=(2, 3)).flatten()
        tensor([11.,  0., 10.])
    """

    def __init__(self) -> None:
        super().__init__(aggr="add")

    def forward(
        self, x: Tensor, graph: Graph, edge_weight: Tensor | None = None, size: tuple[int, int] | None = None
    ) -> Tensor:
        """Runs one step of propagation.

        Args:
            x: ``[num_src, channels]`` source features.
            graph: The edges, in any of the class's forms.
            edge_weight: ``[num_edges]``, only beside an ``edge_index``; the other forms hold their weights.
            size: ``(num_src, num_dst)``, only beside an ``edge_index`` of a rectangular graph.
        """
        if isinstance(graph, SparseOperator):
            return graph @ x
        out: Tensor = self.propagate(graph, x=(x, None), edge_weight=edge_weight, size=size or self._size(x, graph))
        return out

    @staticmethod
    def _size(x: Tensor, graph: Graph) -> tuple[int, int]:
        """``(num_src, num_dst)`` where the caller gave none."""
        if isinstance(graph, SparseTensor) or (isinstance(graph, Tensor) and graph.layout != torch.strided):
            return x.size(0), graph.size(0)
        if isinstance(graph, EdgeIndex):
            num_src, num_dst = graph.sparse_size()
            return num_src or x.size(0), num_dst or x.size(0)
        return x.size(0), x.size(0)

    def message(self, x_j: Tensor, edge_weight: Tensor | None) -> Tensor:  # noqa: D102
        return x_j if edge_weight is None else edge_weight.view(-1, 1) * x_j

    def message_and_aggregate(self, adj_t: SparseTensor | Tensor, x: tuple[Tensor, None]) -> Tensor:  # noqa: D102
        out: Tensor = spmm(adj_t, x[0], reduce="sum")
        return out


def reverse(graph: Graph) -> Graph:
    """The same edges from targets to sources."""
    if isinstance(graph, (SparseOperator, SparseTensor)):
        return graph.t()
    if graph.layout != torch.strided:
        return graph.t().to_sparse_csr()
    return graph.flip(0)


class LightGCNConv(torch.nn.Module):
    r"""Light graph convolution over the bipartite user-item graph, averaged over its layers.

    From `"LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation"
    <https://arxiv.org/abs/2002.02126>`_ (Eq. 3 and 4, with :math:`\alpha_k = 1 / (K + 1)`):

    .. math::
        \mathbf{e}_u^{(k+1)} = \sum_{i \in \mathcal{N}_u} \frac{\mathbf{e}_i^{(k)}}{\sqrt{|\mathcal{N}_u|
        |\mathcal{N}_i|}}, \quad
        \mathbf{e}_i^{(k+1)} = \sum_{u \in \mathcal{N}_i} \frac{\mathbf{e}_u^{(k)}}{\sqrt{|\mathcal{N}_i|
        |\mathcal{N}_u|}}, \quad
        \mathbf{e} = \frac{1}{K+1} \sum_{k=0}^{K} \mathbf{e}^{(k)}

    Args:
        num_layers: K, the number of layers; 0 returns the inputs.

    Shapes:
        - **input:** ``[num_users, channels]``, ``[num_items, channels]``, the graph user -> item
        - **output:** ``[num_users, channels]``, ``[num_items, channels]``
    """

    def __init__(self, num_layers: int = 2) -> None:
        super().__init__()
        if num_layers < 0:
            raise ValueError(f"'num_layers' must not be negative (got {num_layers})")
        self.num_layers = num_layers
        self.conv = PropagationConv()

    def forward(
        self,
        user: Tensor,
        item: Tensor,
        graph: Graph,
        edge_weight: Tensor | None = None,
        back: SparseOperator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Averages the layers.

        Args:
            user: ``[num_users, channels]``.
            item: ``[num_items, channels]``.
            graph: The normalised graph user -> item in any form of :class:`PropagationConv`.
            edge_weight: ``[num_edges]`` normalised weights, only beside an ``edge_index``.
            back: The graph item -> user, only beside an operator of which it is not the transpose.
        """
        if self.num_layers == 0:
            return user, item
        if isinstance(graph, SparseOperator):
            return layer_mean(graph, user, item, self.num_layers, back)
        backward = reverse(graph)
        size = (user.size(0), item.size(0))
        user_sum, item_sum = user, item
        for _ in range(self.num_layers):
            user, item = (
                self.conv(item, backward, edge_weight, size[::-1]),
                self.conv(user, graph, edge_weight, size),
            )
            user_sum, item_sum = user_sum + user, item_sum + item
        return user_sum / (self.num_layers + 1), item_sum / (self.num_layers + 1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_layers={self.num_layers})"


def default_graph_weights(names: Sequence[str]) -> dict[str, float]:
    """Weights of modal graphs where the user gives none: FREEDOM's for images and texts, else equal shares.

    Args:
        names: The modalities that have a graph.

    Example:
        >>> default_graph_weights(['image', 'text']), default_graph_weights(['audio', 'image'])
        ({'image': 0.1, 'text': 0.9}, {'audio': 0.5, 'image': 0.5})
    """
    if sorted(names) == ["image", "text"]:
        return {"image": 0.1, "text": 0.9}
    return dict.fromkeys(names, 1 / len(names))


class ModalGraphConv(torch.nn.Module):
    r"""Propagation over a weighted sum of frozen modal kNN graphs.

    From `"A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal Recommendation"
    <https://arxiv.org/abs/2211.06924>`_ (Eq. 4 and 9):

    .. math::
        \mathbf{H} = \Big(\sum_m \alpha_m \mathbf{S}_m\Big)^{L} \mathbf{X}

    The graphs are never added up, so the weights may be numbers or learnable tensors.

    Args:
        num_layers: L, the number of layers; 0 returns the input.

    Shapes:
        - **input:** ``[num_nodes, channels]``, graphs and weights by modality
        - **output:** ``[num_nodes, channels]``
    """

    def __init__(self, num_layers: int = 1) -> None:
        super().__init__()
        if num_layers < 0:
            raise ValueError(f"'num_layers' must not be negative (got {num_layers})")
        self.num_layers = num_layers
        self.conv = PropagationConv()

    def forward(self, x: Tensor, graphs: Mapping[str, Graph], weights: Mapping[str, float | Tensor]) -> Tensor:
        """Propagates ``x``.

        Args:
            x: ``[num_nodes, channels]``.
            graphs: The normalised graph of each modality.
            weights: The weight of each graph, by the same names.

        Raises:
            ValueError: If the names differ.
        """
        if set(graphs) != set(weights):
            raise ValueError(
                f"'weights', a model's 'graph_weights', must name the graphs {sorted(graphs)} (got {sorted(weights)})"
            )
        for _ in range(self.num_layers):
            x = torch.stack([weights[name] * self.conv(x, graph) for name, graph in graphs.items()]).sum(0)
        return x

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_layers={self.num_layers})"

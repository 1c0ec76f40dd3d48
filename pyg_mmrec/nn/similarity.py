"""Similarities of raw features within a batch, as targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.utils import csr_entries, interaction_operator, item_features, modality_masks
from pyg_mmrec.utils.checks import check_choice, check_int
from pyg_mmrec.utils.gram import gram

#: Rows of a batch whose products with the items are transposed at a time.
ROWS_AT_ONCE = 256

#: Features that are no wider are multiplied faster than their products are read.
GRAM_CHANNELS = 1024

#: How the targets are computed.
TargetMode = Literal["direct", "gram", "projected"]

#: What is read of a matrix over the items for the nodes of a batch.
Of: TypeAlias = Callable[[Tensor], Tensor]


class SimilarityTargets:
    r"""Cosine similarities of raw modal features among the users or the items of a batch, weighted over modalities.

    The targets of DRepMRec's similarity-supervised signal (Eq. 12), :math:`\sum_m \alpha_m \cos(\mathbf{e}_m,
    \mathbf{e}_m')`. A user's features are the mean of the features of the items in ``edge_index``; the cosine does not
    see by what a sum is divided, so sums are used. What a node lacks has no similarity to anything.

    Args:
        weights: :math:`\alpha_m` by modality.
        in_channels: Width of each of these modalities' features.
        mode: ``'direct'`` multiplies the features of the batch (default); ``'gram'`` reads the same similarities from
            the items' inner products, computed once, ``num_items``² numbers for each modality of more than 1024
            channels, where it is faster; ``'projected'`` multiplies random projections of the features, which keep
            cosines up to about one over the root of ``channels``.
        channels: Width of the random projections (default: 256); narrower features stay as they are.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 2, 3
        >>> data['item'].x_text = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]])
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 0, 1], [0, 1, 2]])
        >>> targets = SimilarityTargets({'text': 1.0}, {'text': 2})
        >>> targets.items(data, torch.tensor([0, 2]))
        tensor([[1.0000, 0.6000],
                [0.6000, 1.0000]])
        >>> targets.users(data, torch.tensor([0, 1]))
        tensor([[1.0000, 0.9899],
                [0.9899, 1.0000]])
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        in_channels: Mapping[str, int],
        mode: TargetMode = "direct",
        channels: int = 256,
    ) -> None:
        check_choice(("direct", "gram", "projected"), mode=mode)
        check_int(1, channels=channels)
        self.weights, self.in_channels = dict(weights), dict(in_channels)
        self.mode, self.channels = mode, channels
        # By modality, the raw features and their mask, and what was made of them.
        self._held: dict[str, tuple[Tensor, Tensor | None, Tensor, Tensor | None]] = {}

    @property
    def num_factors(self) -> int | None:
        """Width of the factors; None where there are none, because the items' inner products are read instead."""
        widths = [self.in_channels[name] for name in self.weights]
        if self.mode == "gram" and any(width > GRAM_CHANNELS for width in widths):
            return None
        return sum(min(width, self.channels) if self.mode == "projected" else width for width in widths)

    def items(self, data: HeteroData, item: Tensor) -> Tensor:
        """``[n, n]`` for ``[n]`` items."""
        with _as_constants(item.device):
            return self._similarities(data, lambda x: x[item], lambda products: products[item[:, None], item])

    def users(self, data: HeteroData, user: Tensor) -> Tensor:
        """``[n, n]`` for ``[n]`` users."""
        history = _histories(data, user)

        def products_of(products: Tensor) -> Tensor:
            total = history.to(products.dtype) @ products
            blocks = [block.t().contiguous() for block in total.split(ROWS_AT_ONCE)]  # as wide as a cache
            return torch.cat([history.to(products.dtype) @ block for block in blocks], dim=1)

        with _as_constants(user.device):
            return self._similarities(data, lambda x: history.to(x.dtype) @ x, products_of)

    def item_factors(self, data: HeteroData, item: Tensor) -> Tensor:
        """``[n, num_factors]`` for ``[n]`` items: vectors whose inner products are :meth:`items`."""
        with _as_constants(item.device):
            return self._factors(data, self.weights, lambda x: x[item])

    def user_factors(self, data: HeteroData, user: Tensor) -> Tensor:
        """``[n, num_factors]`` for ``[n]`` users: vectors whose inner products are :meth:`users`."""
        history = _histories(data, user)
        with _as_constants(user.device):
            return self._factors(data, self.weights, lambda x: history.to(x.dtype) @ x)

    def _similarities(self, data: HeteroData, of_features: Of, of_products: Of) -> Tensor:
        """The weighted sum, from features or, where the items' inner products are held, from these."""
        held = {name: products for name in self.weights if (products := self._prepared(data, name)[1]) is not None}
        parts = [_cosines(of_products(products)).mul_(self.weights[name]) for name, products in held.items()]
        if len(held) < len(self.weights):
            parts.append(gram(self._factors(data, [name for name in self.weights if name not in held], of_features)))
        return reduce(Tensor.add_, parts)

    def _factors(self, data: HeteroData, names: Iterable[str], of_features: Of) -> Tensor:
        """Features at length one, each times the root of its modality's weight, side by side."""
        parts = [
            F.normalize(of_features(self._prepared(data, name)[0])).mul_(self.weights[name] ** 0.5) for name in names
        ]
        return torch.cat(parts, dim=1)

    def _prepared(self, data: HeteroData, name: str) -> tuple[Tensor, Tensor | None]:
        """Features and, where they are read, the items' inner products; made once for the same features."""
        x, mask = item_features(data, name, self.in_channels[name]), modality_masks(data, [name]).get(name)
        held = self._held.get(name)
        if held is None or held[0] is not x or held[1] is not mask:
            held = self._held[name] = x, mask, *self._prepare(x, mask)
        return held[2], held[3]

    def _prepare(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        features = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        if mask is not None:
            features = features * mask.unsqueeze(-1)
        if self.mode == "gram" and features.size(1) > GRAM_CHANNELS:
            return features, features @ features.t()
        if self.mode == "projected" and features.size(1) > self.channels:
            generator = torch.Generator().manual_seed(0)
            projection = torch.randn(features.size(1), self.channels, generator=generator).to(features)
            features = features @ projection.mul_(self.channels**-0.5)
        return features, None


@contextmanager
def _as_constants(device: torch.device) -> Iterator[None]:
    """Without gradients, in the features' own precision."""
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


def _histories(data: HeteroData, user: Tensor) -> Tensor:
    """``[n, num_items]`` in CSR layout, ones where the users have an item."""
    operator = interaction_operator(data).t()
    entry = csr_entries(operator.rowptr, user)[1]
    ptr = F.pad(operator.rowptr.diff()[user].cumsum(0), (1, 0)).to(operator.rowptr.dtype)
    ones = torch.ones_like(operator.value[entry])
    return torch.sparse_csr_tensor(ptr, operator.col[entry], ones, (user.numel(), operator.shape[1]))


def _cosines(products: Tensor) -> Tensor:
    """Cosines from the inner products of some vectors with each other; zero with a vector that is zero."""
    scale = products.diagonal().clamp_min(torch.finfo(products.dtype).tiny).rsqrt()
    return products.mul_(scale).mul_(scale.unsqueeze(1))

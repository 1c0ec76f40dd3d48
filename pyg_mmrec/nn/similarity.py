"""Similarities of raw features within a batch, as targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.utils import csr_entries, interaction_operator, item_features, modality_masks
from pyg_mmrec.utils.checks import check_choice, check_int

#: Rows of a batch that are multiplied with all that follow them.
ROWS_AT_ONCE = 256

#: Features that are no wider are multiplied faster than their products are read.
GRAM_CHANNELS = 1024

#: How the targets are computed.
TargetMode = Literal["direct", "gram", "projected"]


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
            channels, where it is faster; ``'projected'``
            multiplies random projections of the features, which keep cosines up to about one over the root of
            ``channels``.
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

    @torch.no_grad()
    def items(self, data: HeteroData, item: Tensor) -> Tensor:
        """``[n, n]`` for ``[n]`` items."""

        def similarity(name: str) -> Tensor:
            x, products = self._prepared(data, name)
            return _gram(F.normalize(x[item])) if products is None else _cosines(products[item[:, None], item])

        return self._total(item, similarity)

    @torch.no_grad()
    def users(self, data: HeteroData, user: Tensor) -> Tensor:
        """``[n, n]`` for ``[n]`` users."""
        history = _histories(data, user)

        def similarity(name: str) -> Tensor:
            x, products = self._prepared(data, name)
            if products is None:
                return _gram(F.normalize(history.to(x.dtype) @ x))  # sums over each user's items
            total = history.to(x.dtype) @ products
            blocks = [block.t().contiguous() for block in total.split(ROWS_AT_ONCE)]  # as wide as a cache
            return _cosines(torch.cat([history.to(x.dtype) @ block for block in blocks], dim=1))

        return self._total(user, similarity)

    def _total(self, index: Tensor, similarity: Callable[[str], Tensor]) -> Tensor:
        with torch.autocast(index.device.type, enabled=False):
            total = torch.zeros(())
            for name, weight in self.weights.items():
                part = similarity(name)
                total = part.mul_(weight) if total.dim() == 0 else total.add_(part, alpha=weight)
            return total

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


def _histories(data: HeteroData, user: Tensor) -> Tensor:
    """``[n, num_items]`` in CSR layout, ones where the users have an item."""
    operator = interaction_operator(data).t()
    entry = csr_entries(operator.rowptr, user)[1]
    ptr = F.pad(operator.rowptr.diff()[user].cumsum(0), (1, 0)).to(operator.rowptr.dtype)
    ones = torch.ones_like(operator.value[entry])
    return torch.sparse_csr_tensor(ptr, operator.col[entry], ones, (user.numel(), operator.shape[1]))


def _gram(x: Tensor) -> Tensor:
    """Inner products of all rows; the half above the diagonal is computed, the other copied."""
    out = x.new_empty(x.size(0), x.size(0))
    for start in range(0, x.size(0), ROWS_AT_ONCE):
        stop = start + ROWS_AT_ONCE
        out[start:stop, start:] = x[start:stop] @ x[start:].t()
        out[stop:, start:stop] = out[start:stop, stop:].t()
    return out


def _cosines(products: Tensor) -> Tensor:
    """Cosines from the inner products of some vectors with each other; zero with a vector that is zero."""
    scale = products.diagonal().clamp_min(torch.finfo(products.dtype).tiny).rsqrt()
    return products.mul_(scale).mul_(scale.unsqueeze(1))

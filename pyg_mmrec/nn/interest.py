"""Deep interest network: what a user's history says about one candidate."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Linear, ReLU, Sequential

from pyg_mmrec.utils import segment_sum, take_rows
from pyg_mmrec.utils.checks import check_int

#: Numbers that scoring holds at a time: few enough for the cache.
NUMBERS_AT_ONCE = 2**22


class Contributions(NamedTuple):
    """What parts of the input gave to a score; they add up to it."""

    bias: Tensor  #: ``[]`` of the piece of the predictor, linear there, that the input falls into
    candidate: Tensor  #: ``[channels]`` of the candidate's own dimensions
    history: Tensor  #: ``[num_entries, channels]`` of the dimensions of each item of the history


class DeepInterest(torch.nn.Module):
    r"""Attention of a candidate to a history, and prediction from both.

    From `"Deep Interest Network for Click-Through Rate Prediction" <https://arxiv.org/abs/1706.06978>`_, as it is used
    in "Multimodal Disentangled Representation for Recommendation" (Eq. 18 to 20). Weights are not normalised:

    .. math::
        w_{ik} = \mathrm{MLP}([\mathbf{h}_i, \mathbf{h}_k, \mathbf{h}_i - \mathbf{h}_k,
        \mathbf{h}_i \odot \mathbf{h}_k]), \quad \mathbf{u} = \sum_k w_{ik} \mathbf{h}_k, \quad
        y = \mathrm{MLP}([\mathbf{u}, \mathbf{h}_i, \mathbf{u} \odot \mathbf{h}_i])

    A linear map of the difference is the difference of two linear maps, so the first layer of the attention reads
    :math:`\mathbf{h}_i`, :math:`\mathbf{h}_k` and their product only. Its weight depends on two items and not on the
    user: for many candidates it is computed once for each pair of items, not for each user again. Rectifiers make the
    prediction linear piece by piece, so that a score is a sum over its input (:meth:`contributions`).

    Args:
        channels: Width of the items' representations.
        attention_channels: Width of the attention's hidden layer (default: 36, the paper's).
        predictor_channels: Widths of the prediction's hidden layers (default: 80 and 40).

    Raises:
        ValueError: If a width is not positive.
    """

    def __init__(
        self, channels: int, attention_channels: int = 36, predictor_channels: Sequence[int] = (80, 40)
    ) -> None:
        super().__init__()
        check_int(1, channels=channels, attention_channels=attention_channels)
        for width in predictor_channels:
            check_int(1, predictor_channels=width)
        self.candidate = Linear(channels, attention_channels)
        self.history = Linear(channels, attention_channels, bias=False)
        self.product = Linear(channels, attention_channels, bias=False)
        self.attention = Linear(attention_channels, 1)
        layers: list[torch.nn.Module] = []
        for width, following in itertools.pairwise([3 * channels, *predictor_channels]):
            layers += [Linear(width, following), ReLU()]
        self.predictor = Sequential(*layers, Linear([3 * channels, *predictor_channels][-1], 1))

    def reset_parameters(self) -> None:
        """Draws all layers anew."""
        for module in self.modules():
            if isinstance(module, Linear):
                module.reset_parameters()

    def forward(self, table: Tensor, candidate: Tensor, row: Tensor, ptr: Tensor) -> Tensor:
        """Scores of candidates for ragged histories.

        Args:
            table: ``[num_rows, channels]`` representations of items.
            candidate: ``[B, C]`` rows of it, for each history.
            row: ``[num_entries]`` rows of it, all histories.
            ptr: ``[B + 1]`` where the histories start; empty ones have a vector of zeros.

        Returns:
            ``[B, C]``.
        """
        user = torch.arange(ptr.numel() - 1, device=ptr.device).repeat_interleave(ptr.diff(), output_size=row.numel())
        of_candidate, of_history = take_rows(table, candidate), take_rows(table, row)  # [B, C, d], [E, d]
        hidden = take_rows(take_rows(self.candidate(table), candidate), user)
        hidden = hidden + take_rows(self.history(table), row).unsqueeze(1)
        hidden = hidden + self.product(take_rows(of_candidate, user) * of_history.unsqueeze(1))  # [E, C, h]
        weight = self.attention(hidden.relu()).squeeze(-1)  # [E, C]
        return self.predict(segment_sum(weight, of_history, ptr), of_candidate)

    def predict(self, user: Tensor, candidate: Tensor) -> Tensor:
        """``[...]`` scores of ``[..., channels]`` candidates for users with ``[..., channels]`` vectors."""
        out: Tensor = self.predictor(torch.cat([user, candidate, user * candidate], dim=-1)).squeeze(-1)
        return out

    def weights(self, candidate: Tensor, history: Tensor) -> Tensor:
        """``[C, H]`` weights of the items of histories for candidates, from representations, in blocks of these."""
        of_history, width = self.history(history).t().contiguous(), self.product.weight.size(0)  # [h, H]
        block = max(1, NUMBERS_AT_ONCE // max(1, width * max(history.shape)))
        out = []
        for part in candidate.split(block):
            maps = part.unsqueeze(1) * self.product.weight  # [c, h, d], one linear map for each candidate
            hidden = (maps.flatten(0, 1) @ history.t()).unflatten(0, (-1, width))  # [c, h, H]
            hidden = hidden.add_(of_history).add_(self.candidate(part).unsqueeze(-1)).relu_()
            out.append((self.attention.weight @ hidden).squeeze(1) + self.attention.bias)
        return torch.cat(out) if out else history.new_empty(0, history.size(0))

    def score_all(self, table: Tensor, candidate: Tensor, row: Tensor, ptr: Tensor) -> Tensor:
        """As :meth:`forward` for the same ``[C]`` candidates of all histories, each pair of items weighed once."""
        seen, place = row.unique(return_inverse=True)
        length = int(ptr.diff().max()) if ptr.numel() > 1 and row.numel() else 0
        num_users = ptr.numel() - 1
        slot = torch.arange(length, device=row.device)
        real = slot < ptr.diff().unsqueeze(1)  # [B, length]
        padded = torch.zeros(num_users, length, dtype=torch.long, device=row.device)
        padded[real] = place
        history = table[seen]
        items = history[padded] if length else table.new_zeros(num_users, 0, table.size(1))  # [B, length, d]
        block = max(1, NUMBERS_AT_ONCE // max(1, num_users * (length + 3 * table.size(1) + 128)))
        scores = []
        for part in candidate.split(block):
            of_candidate = table[part]
            weight = self.weights(of_candidate, history)[:, padded] * real  # [c, B, length]
            user = weight.transpose(0, 1) @ items  # [B, c, d]
            scores.append(self.predict(user, of_candidate.expand(num_users, -1, -1)))
        return torch.cat(scores, dim=1) if scores else table.new_empty(num_users, 0)

    @torch.no_grad()
    def contributions(self, candidate: Tensor, history: Tensor) -> Contributions:
        """What each dimension of a candidate and of each item of a history gave to its score.

        Weights are taken as they are, so that a dimension which the attention alone reads gave nothing.

        Args:
            candidate: ``[channels]``.
            history: ``[num_entries, channels]``.
        """
        weight = self.weights(candidate.unsqueeze(0), history)[0]
        shown = weight.unsqueeze(1) * history  # [n, d], whose sum is the user's vector
        user = shown.sum(0)
        with torch.enable_grad():
            x = torch.cat([user, candidate, user * candidate]).requires_grad_()
            score = self.predictor(x).squeeze(-1)
            (slope,) = torch.autograd.grad(score, x)
        of_user, of_candidate, of_product = slope.chunk(3)
        by_candidate = of_candidate * candidate
        by_history = (of_user + of_product * candidate) * shown
        return Contributions(score.detach() - by_candidate.sum() - by_history.sum(), by_candidate, by_history)

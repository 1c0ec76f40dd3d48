"""Soft intents, attention of intents to histories, and what both make of users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch_geometric.utils import softmax

from pyg_mmrec.utils import kept_entries, segment_mean, segment_rows, segment_sum, take_rows, unit_rows
from pyg_mmrec.utils.checks import check_choice, check_flag, check_int, check_positive

#: Samples that k-means reads at most.
PLACED_BY = 50_000


class SoftIntents(torch.nn.Module):
    r"""Learnable intents and how likely each is for a sample.

    From "Multimodal-aware Multi-intention Learning for Recommendation" (Eq. 4). With :math:`f`
    a linear map and rows of length one,

    .. math::
        s^k = \frac{\exp(-g(f(\mathbf{z}), \mathbf{i}_k))}{\sum_{k'} \exp(-g(f(\mathbf{z}), \mathbf{i}_{k'}))},
        \quad g(\mathbf{a}, \mathbf{b}) = (2 - 2 \cos(\mathbf{a}, \mathbf{b})) / \tau_s

    Args:
        num_intents: K.
        channels: Width d.
        temperature: :math:`\tau_s` (default: 0.2; the paper has none, and its distance is not said).
        distance: ``'cosine'`` as above (default), or ``'euclid'``, the squared distance over the width, under which
            all samples and intents may collapse to a point.

    Shapes:
        - **input:** ``[num_samples, channels]``
        - **output:** ``[num_samples, num_intents]`` probabilities, ``[num_samples, num_intents]`` distances g

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        num_intents: int,
        channels: int,
        temperature: float = 0.2,
        distance: Literal["cosine", "euclid"] = "cosine",
    ) -> None:
        super().__init__()
        check_int(2, num_intents=num_intents)
        check_int(1, channels=channels)
        check_positive(temperature=temperature)
        check_choice(("cosine", "euclid"), distance=distance)
        self.temperature, self.distance = temperature, distance
        self.weight = torch.nn.Parameter(torch.empty(num_intents, channels))  # i
        self.lin = torch.nn.Linear(channels, channels)  # f
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws intents and map anew."""
        torch.nn.init.xavier_uniform_(self.weight)
        torch.nn.init.xavier_uniform_(self.lin.weight)
        torch.nn.init.zeros_(self.lin.bias)

    @torch.no_grad()
    def place(self, z: Tensor, generator: torch.Generator) -> None:
        """Puts the intents at the k-means centres of samples, with the lengths they have, and f at the identity.

        Random intents get hold of arbitrary directions, and the clustering then settles where it began; k-means is how
        `deep embedded clustering <https://arxiv.org/abs/1511.06335>`_ starts.

        Args:
            z: ``[num_samples, channels]``, at least as many as intents; beyond 50,000 a random part is read.
            generator: Source of all randomness.
        """
        num_intents, seed = self.weight.size(0), int(torch.randint(2**31, (), generator=generator))
        if z.size(0) > PLACED_BY:
            z = z[torch.randperm(z.size(0), generator=generator)[:PLACED_BY].to(z.device)]
        if self.distance == "cosine":
            z = unit_rows(z)
        found = KMeans(num_intents, n_init=5, random_state=seed).fit(z.cpu().numpy())
        centre = torch.from_numpy(found.cluster_centers_).to(self.weight)
        if self.distance == "cosine":
            centre = unit_rows(centre) * self.weight.norm(dim=-1, keepdim=True)
        self.weight.copy_(centre)
        torch.nn.init.eye_(self.lin.weight)
        torch.nn.init.zeros_(self.lin.bias)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and distances of each sample's intents."""
        mapped = self.lin(z)
        if self.distance == "cosine":
            cosine = unit_rows(mapped) @ unit_rows(self.weight).t()
            g = (2 - 2 * cosine) / self.temperature
        else:
            norms = mapped.square().sum(-1, keepdim=True) + self.weight.square().sum(-1)
            g = (norms - 2 * mapped @ self.weight.t()) / mapped.size(-1)
        return (-g).softmax(-1), g


class IntentAttention(torch.nn.Module):
    r"""What each intent reads from a history.

    From "Multimodal-aware Multi-intention Learning for Recommendation" (Eq. 10), with the intents :math:`\mathbf{I}` as
    queries and a history's embeddings :math:`\mathbf{e}` as keys and values:

    .. math::
        \mathbf{V} = \mathrm{softmax}\Big(\frac{(\mathbf{I} \mathbf{W}_q)(\mathbf{e} \mathbf{W}_k)^\top}{\sqrt{d}}
        \Big) (\mathbf{e} \mathbf{W}_v)

    Histories are ragged: their keys and values are those of rows of a table, computed once for all histories, or for
    each entry where there are fewer entries than rows.

    Args:
        channels: Width d.

    Shapes:
        - **input:** ``[num_rows, channels]`` table, ``[num_entries]`` rows of it, ``[num_histories + 1]`` where the
          histories start, ``[num_intents, channels]``
        - **output:** ``[num_histories, num_intents, channels]``, ``[num_entries, num_intents]`` attention
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (torch.nn.Linear(channels, channels, bias=False) for _ in range(3))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the maps anew; that of the values near the identity, so that an intent starts near a history's mean."""
        for lin in (self.query, self.key):
            torch.nn.init.xavier_uniform_(lin.weight)
        with torch.no_grad():
            torch.nn.init.xavier_uniform_(self.value.weight, gain=0.1)
            self.value.weight += torch.eye(self.value.weight.size(0))

    def forward(self, table: Tensor, row: Tensor, ptr: Tensor, intent: Tensor) -> tuple[Tensor, Tensor]:
        """What each intent reads from each history, and how it attends to the entries."""
        if row.numel() < table.size(0):  # rows that nobody reads are not mapped
            table, row = take_rows(table, row), torch.arange(row.numel(), device=row.device)
        logits = self.key(table) @ self.query(intent).t() / table.size(1) ** 0.5  # [num_rows, num_intents]
        attention: Tensor = softmax(take_rows(logits, row), ptr=ptr)
        return segment_sum(attention, take_rows(self.value(table), row), ptr), attention


class Extracted(NamedTuple):
    """What :class:`MultiIntentExtractor` makes of the histories of B users."""

    vector: Tensor  #: ``[B, channels]`` x (Eq. 14)
    modality: Tensor  #: ``[B, M]`` r (Eq. 9), even without modal awareness
    assignment: Tensor | None = None  #: ``[B, K]`` s (Eq. 4)
    distance: Tensor | None = None  #: ``[B, K]`` g
    views: Tensor | None = None  #: ``[B, K, channels]`` h (Eq. 11)


class _Part(NamedTuple):
    """Histories as one channel sees them: rows of its table."""

    table: Tensor  # [num_rows, channels]
    row: Tensor  # [num_entries]
    ptr: Tensor  # [B + 1]


class MultiIntentExtractor(torch.nn.Module):
    r"""Users' intents, seen through the channels of their histories.

    From "Multimodal-aware Multi-intention Learning for Recommendation" (Eq. 4, 9 to 11 and 14). With
    :math:`\bar{\mathbf{e}}_u^m` the mean of channel m over a history and :math:`\mathbf{e}_u` the user's own embedding,

    .. math::
        \mathbf{s}_u &= \mathrm{SoftIntents}(\mathbf{e}_u + \bar{\mathbf{e}}_u^1), \quad
        \mathbf{r}_u = \mathrm{softmax}(\mathrm{FC}(\mathrm{MultiHeadAttention}([\bar{\mathbf{e}}_u^m]_m))), \\
        \mathbf{h}_u^k &= \sum_m r_u^m \mathbf{V}_{u,k}^m, \quad \mathbf{x}_u = \sum_k s_u^k \mathbf{h}_u^k

    where :math:`\mathbf{V}_u^m` is :class:`IntentAttention` to channel m. The first channel is that of the users' own
    embeddings, which are one more entry of each history there.

    Args:
        names: Names of the channels M, the users' own first.
        channels: Width d.
        num_intents: K.
        num_heads: Heads of the attention in Eq. 9, which divide the width (default: 4).
        intent_learning: Whether there are intents, or :math:`\mathbf{x}_u = \sum_m r_u^m \bar{\mathbf{e}}_u^m`
            (default: True).
        modal_awareness: Whether intents read histories, or :math:`\mathbf{h}_u^k` is intent k itself and
            :math:`\mathbf{r}_u` is even (default: True).
        temperature: :math:`\tau_s` of Eq. 4 (default: 0.2; none is published).
        distance: Distance of Eq. 4, see :class:`SoftIntents`.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        names: list[str],
        channels: int,
        num_intents: int,
        *,
        num_heads: int = 4,
        intent_learning: bool = True,
        modal_awareness: bool = True,
        temperature: float = 0.2,
        distance: Literal["cosine", "euclid"] = "cosine",
    ) -> None:
        super().__init__()
        check_int(1, channels=channels, num_heads=num_heads)
        check_flag(intent_learning=intent_learning, modal_awareness=modal_awareness)
        if channels % num_heads:
            raise ValueError(f"'num_heads' must divide 'hidden_channels' (got {num_heads} and {channels})")
        self.names = list(names)
        self.intents = SoftIntents(num_intents, channels, temperature, distance) if intent_learning else None
        perceived = names if intent_learning and modal_awareness else []
        self.perception = torch.nn.ModuleDict({name: IntentAttention(channels) for name in perceived})
        self.mixer = torch.nn.MultiheadAttention(channels, num_heads, batch_first=True) if modal_awareness else None
        self.mixed = torch.nn.Linear(len(names) * channels, len(names)) if modal_awareness else None  # FC

    def reset_parameters(self) -> None:
        """Draws everything anew."""
        for module in self.modules():
            if isinstance(module, (SoftIntents, IntentAttention)):
                module.reset_parameters()
        if self.mixer is not None and self.mixed is not None:
            self.mixer._reset_parameters()
            for lin in (self.mixer.out_proj, self.mixed):
                torch.nn.init.xavier_uniform_(lin.weight)
            torch.nn.init.zeros_(self.mixed.bias)

    def forward(
        self, tables: Mapping[str, Tensor], own: Tensor, item: Tensor, ptr: Tensor, masks: Mapping[str, Tensor]
    ) -> Extracted:
        """Vectors of B users from their histories.

        Args:
            tables: By channel ``[num_items, channels]``.
            own: ``[B, channels]`` the users' own embeddings.
            item: ``[num_entries]`` items of all histories.
            ptr: ``[B + 1]`` where the histories start.
            masks: ``[num_items]`` bool, which items have a channel, for those that some items lack.
        """
        parts = self._parts(tables, own, item, ptr, masks)
        first, *others = parts.values()
        means = [segment_mean(take_rows(first.table, item), ptr)]
        means += [segment_mean(take_rows(part.table, part.row), part.ptr) for part in others]
        mean = torch.stack(means, dim=1)  # [B, M, channels]
        modality = self._modality(mean)
        if self.intents is None:
            return Extracted((modality.unsqueeze(-1) * mean).sum(1), modality)
        assignment, distance = self.intents(own + means[0])
        views = self.intents.weight.expand(own.size(0), -1, -1)
        if self.perception:
            read = [lin(*parts[name], self.intents.weight)[0] for name, lin in self.perception.items()]
            views = torch.stack([r[:, None, None] * v for r, v in zip(modality.unbind(1), read, strict=True)]).sum(0)
        return Extracted((assignment.unsqueeze(-1) * views).sum(1), modality, assignment, distance, views)

    def carried(
        self, tables: Mapping[str, Tensor], own: Tensor, item: Tensor, masks: Mapping[str, Tensor], modality: Tensor
    ) -> Tensor:
        """``[K, n]``, which share of each intent of one user each item of its history carries; the rest, itself.

        Args:
            tables: As in :meth:`forward`.
            own: ``[1, channels]``.
            item: ``[n]`` its items.
            masks: As in :meth:`forward`.
            modality: ``[M]`` the weights of the channels.
        """
        if self.intents is None or not self.perception:
            raise ValueError("without 'intent_learning' and 'modal_awareness' no intent is carried by items")
        parts = self._parts(tables, own, item, item.new_tensor([0, item.numel()]), masks)
        out = own.new_zeros(self.intents.weight.size(0), item.numel())
        for weight, (name, part) in zip(modality, parts.items(), strict=True):
            attention = self.perception[name](*part, self.intents.weight)[1].t()
            if name == self.names[0]:
                out += weight * attention[:, 1:]  # the first entry is the user
            else:
                has = masks[name][item] if name in masks else torch.ones_like(item, dtype=torch.bool)
                out[:, has] += weight * attention
        return out

    def _parts(
        self, tables: Mapping[str, Tensor], own: Tensor, item: Tensor, ptr: Tensor, masks: Mapping[str, Tensor]
    ) -> dict[str, _Part]:
        """Histories by channel: the first starts with the users themselves, others leave out items that lack them."""
        first, *others = self.names
        start = ptr + torch.arange(ptr.numel(), device=ptr.device)  # one more entry in each history
        row = item.new_empty(item.numel() + own.size(0))
        row[start[:-1]] = tables[first].size(0) + torch.arange(own.size(0), device=item.device)
        row[torch.arange(item.numel(), device=item.device) + segment_rows(ptr) + 1] = item
        parts = {first: _Part(torch.cat([tables[first], own]), row, start)}
        for name in others:
            kept = kept_entries(item, ptr, masks[name][item]) if name in masks else (item, ptr)
            parts[name] = _Part(tables[name], *kept)
        return parts

    def _modality(self, mean: Tensor) -> Tensor:
        """The weight of each channel for each user (Eq. 9)."""
        if self.mixer is None or self.mixed is None:
            return mean.new_full(mean.shape[:2], 1 / mean.size(1))
        mixed = self.mixer(mean, mean, mean, need_weights=False)[0]
        out: Tensor = self.mixed(mixed.flatten(1)).softmax(-1)
        return out

    def extra_repr(self) -> str:  # noqa: D102
        return f"names={self.names}"

"""MMIL."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Linear, Sequential
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations, UserItem
from pyg_mmrec.nn import MultiIntentExtractor, Standardize, XavierEmbedding, reset_xavier
from pyg_mmrec.nn.conv import LightGCNConv
from pyg_mmrec.nn.loss import intent_contrast, intent_kl, intent_overlap
from pyg_mmrec.nn.projection import check_modality_names
from pyg_mmrec.typing import ITEM, Batches, Histories
from pyg_mmrec.utils import (
    SparseOperator,
    csr_entries,
    interaction_operator,
    item_features,
    kept_entries,
    modality_masks,
    segment_rows,
    similarity_operators,
    take_rows,
    unit_rows,
)
from pyg_mmrec.utils.checks import (
    check_between,
    check_channels,
    check_choice,
    check_flag,
    check_int,
    check_not_negative,
    check_positive,
)

#: The channel of ID embeddings, the paper's attribute modality, beside those of the modalities.
ID = "id"

#: Where the scale starts: vectors have a length of about one, and logits of one at most would not tell items apart.
START_SCALE = 10.0

#: Users whose vectors are computed at a time, and pairs that the perceptron scores at a time.
USERS_AT_ONCE, PAIRED_AT_ONCE = 4096, 2**18


class Explanation(NamedTuple):
    """Why a user's vector is what it is."""

    intent: Tensor  #: ``[num_intents]`` how likely each intent is
    modality: dict[str, float]  #: what each channel weighs, ``'id'`` the ID embeddings
    item: Tensor  #: ``[n]`` the user's train items
    carried: Tensor  #: ``[num_intents, n]`` which share of each intent an item carries; the rest, the user's own ID


class MMIL(Recommender):
    r"""MMIL: several intents for each user, seen through modalities.

    From "Multimodal-aware Multi-intention Learning for Recommendation" (MMIL, 2024).

    Items have a channel for each modality, a linear map of standardised features passed over its kNN graph, and one for
    their ID, LightGCN over the user-item graph; rows have length one. What a user intends and what its vector
    :math:`\mathbf{x}_u` is comes from its ID channel and its history (Eq. 4, 9 to 11 and 14,
    :class:`~pyg_mmrec.nn.MultiIntentExtractor`); with learned a, :math:`\lambda` and b, the probability of an item is

    .. math::
        \hat{p}_{ui} = \sigma\Big(\lambda \Big\langle \mathbf{x}_u + \mathrm{MLP}(\mathbf{x}_u),
        \sum_m \mathrm{softmax}(\mathbf{a})_m \mathbf{e}_i^m \Big\rangle + b_i\Big)

    The objective is Eq. 18, binary cross entropy (Eq. 15), :func:`~pyg_mmrec.nn.loss.intent_kl` (Eq. 17), the mean
    distance to the intents (Eq. 5), :func:`~pyg_mmrec.nn.loss.intent_overlap` (Eq. 6) and
    :func:`~pyg_mmrec.nn.loss.intent_contrast` (Eq. 13) between two random parts of a history:

    .. math::
        \mathcal{L} = \mathcal{L}_p + \mathcal{L}_{kl} + \mu \mathcal{L}_d + \theta \mathcal{L}_c +
        \gamma \mathcal{L}_{cl}

    Batches are users (:class:`~pyg_mmrec.loader.HistoryLoader`): vectors are built from what is shown of a history and
    predict what is hidden, and hidden interactions leave the user-item graph for that step too. The ablations of
    Table 3 are ``intent_learning=False`` (w/o IL), ``modal_awareness=False`` (w/o MA), ``overlap_weight=0`` (w/o OC)
    and ``contrast_weight=0`` (w/o IC).

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        hidden_channels: Width d of the embeddings (default: 64; the paper searches 16 to 128).
        num_intents: K (default: 20; the paper searches 5 to 100).
        num_layers: Layers over the user-item graph, 0 for the plain form (default: 2).
        num_item_layers: Layers over each modality's item graph, 0 for none (default: 1).
        num_heads: Heads of the attention in Eq. 9, which divide the width (default: 4).
        user_embedding: Whether users have an ID embedding too, or their ID channel is only what the graph passes to
            them from items, so that nothing is learned of a single user (default: True).
        embedding_std: ID embeddings start normal with this standard deviation (default: None, Xavier-uniform, as the
            published protocol does). Rows are brought to length one: a step of Adam turns short ones far, and they soon
            learn interactions by heart, but cluster well; long ones, such as of 1, rank better and hardly cluster.
        head: ``'inner'`` as above (default), or ``'mlp'``, a perceptron of three layers on pairs of a user's vector and
            an item, which costs a pass for each pair.
        residual: Whether the inner product reads :math:`\mathbf{x}_u + \mathrm{MLP}(\mathbf{x}_u)` or, as printed,
            :math:`\mathrm{MLP}(\mathbf{x}_u)` (default: True).
        intent_learning: Whether there are intents, or the fused history means predict (default: True).
        modal_awareness: Whether intents read histories through modalities, or are what they are for all users, who are
            then not contrasted (default: True).
        kl_weight: Weight of :math:`\mathcal{L}_{kl}` (default: 0.1; 1 is printed).
        kl_of: ``'users'``, each user's divergence (default), or ``'batch'``, that of their mean; see
            :func:`~pyg_mmrec.nn.loss.intent_kl`.
        distance_weight: :math:`\mu` (default: 0.01; the paper searches 1e-4 to 1).
        overlap_weight: :math:`\theta` (default: 0.01; likewise).
        overlap_form: See :func:`~pyg_mmrec.nn.loss.intent_overlap`.
        contrast_weight: :math:`\gamma` (default: 1e-4; likewise; the term is a sum over intents).
        temperature: :math:`\tau` of the contrast (default: 0.5; the paper searches 0.005 to 50).
        assignment_temperature: :math:`\tau_s` of Eq. 4 (default: 0.2; none is published).
        distance: Distance of Eq. 4, see :class:`~pyg_mmrec.nn.SoftIntents`.
        keep: Share of a history in each of the two parts that are contrasted (default: 0.5).
        hidden_share: Share of a history that is hidden and predicted (default: 0.5).
        num_negatives: Negative items for each hidden one (default: 1; the paper does not say).
        warmup_epochs: Epochs before the intents are put at the k-means centres of the users' samples
            (:meth:`~pyg_mmrec.nn.SoftIntents.place`) and the losses of the intents begin (default: 10; the paper does
            not say how intents start). None draws them at random and has the losses from the start.

    Raises:
        ValueError: If there is no modality, or an argument is out of range; in ``forward``, if the data lacks the item
            graph of a modality.
    """

    modal_graphs: ClassVar[tuple[str, ...]] = (ITEM,)
    batches: ClassVar[Batches] = "histories"

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: dict[str, int],
        *,
        hidden_channels: int = 64,
        num_intents: int = 20,
        num_layers: int = 2,
        num_item_layers: int = 1,
        num_heads: int = 4,
        user_embedding: bool = True,
        embedding_std: float | None = None,
        head: Literal["inner", "mlp"] = "inner",
        residual: bool = True,
        intent_learning: bool = True,
        modal_awareness: bool = True,
        kl_weight: float = 0.1,
        kl_of: Literal["users", "batch"] = "users",
        distance_weight: float = 0.01,
        overlap_weight: float = 0.01,
        overlap_form: Literal["squared", "printed"] = "squared",
        contrast_weight: float = 1e-4,
        temperature: float = 0.5,
        assignment_temperature: float = 0.2,
        distance: Literal["cosine", "euclid"] = "cosine",
        keep: float = 0.5,
        hidden_share: float = 0.5,
        num_negatives: int = 1,
        warmup_epochs: int | None = 10,
    ) -> None:
        super().__init__(num_users, num_items)
        check_channels(in_channels, needed_by="MMIL")
        check_modality_names(in_channels)
        if ID in in_channels:
            raise ValueError(f"a modality cannot be called '{ID}', which is the channel of the ID embeddings")
        check_int(1, hidden_channels=hidden_channels, num_negatives=num_negatives)
        check_int(0, num_layers=num_layers, num_item_layers=num_item_layers)
        if warmup_epochs is not None:
            check_int(0, warmup_epochs=warmup_epochs)
        check_flag(user_embedding=user_embedding, residual=residual)
        check_choice(("inner", "mlp"), head=head)
        check_choice(("users", "batch"), kl_of=kl_of)
        check_choice(("squared", "printed"), overlap_form=overlap_form)
        weights = {"kl_weight": kl_weight, "distance_weight": distance_weight, "overlap_weight": overlap_weight}
        check_not_negative(**weights, contrast_weight=contrast_weight)
        if embedding_std is not None:
            check_positive(embedding_std=embedding_std)
        check_positive(temperature=temperature, assignment_temperature=assignment_temperature)
        check_between(keep=keep, hidden_share=hidden_share)
        self.in_channels = dict(in_channels)
        self.hidden_channels = hidden_channels
        self.num_intents = num_intents
        self.num_layers, self.num_item_layers = num_layers, num_item_layers
        self.num_heads = num_heads
        self.user_embedding, self.embedding_std = user_embedding, embedding_std
        self.head, self.residual = head, residual
        self.intent_learning, self.modal_awareness = intent_learning, modal_awareness
        self.kl_weight, self.kl_of = kl_weight, kl_of
        self.distance_weight = distance_weight
        self.overlap_weight, self.overlap_form = overlap_weight, overlap_form
        self.contrast_weight, self.temperature = contrast_weight, temperature
        self.assignment_temperature, self.distance = assignment_temperature, distance
        self.keep, self.hidden_share, self.num_negatives = keep, hidden_share, num_negatives
        self.warmup_epochs = warmup_epochs

        d, channels = hidden_channels, [ID, *in_channels]
        self.user_emb = XavierEmbedding(num_users, d) if user_embedding else None
        self.item_emb = XavierEmbedding(num_items, d)
        self.conv = LightGCNConv(num_layers)
        self.encoder = torch.nn.ModuleDict({name: Linear(width, d) for name, width in in_channels.items()})  # g_m
        self.extractor = MultiIntentExtractor(
            channels,
            d,
            num_intents,
            num_heads=num_heads,
            intent_learning=intent_learning,
            modal_awareness=modal_awareness,
            temperature=assignment_temperature,
            distance=distance,
        )
        self.item_weight = torch.nn.Parameter(torch.zeros(len(channels)))  # a, before the softmax
        widths = (d, d, d) if head == "inner" else (2 * d, d, 1)
        self.predictor = Sequential(
            Linear(widths[0], d), torch.nn.ReLU(), Linear(d, d), torch.nn.ReLU(), Linear(d, widths[2])
        )
        self.scale = torch.nn.Parameter(torch.ones(())) if head == "inner" else None  # lambda
        self.item_bias = torch.nn.Parameter(torch.zeros(num_items))
        self.standardize: Any = torch.nn.ModuleDict({name: Standardize(width) for name, width in in_channels.items()})
        self.register_buffer("warm", torch.zeros((), dtype=torch.bool))  # whether the losses of the intents count
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws everything anew; the weights of the channels start even, biases at zero."""
        for table in filter(None, (self.user_emb, self.item_emb)):
            table.reset_parameters()
            if self.embedding_std is not None:
                torch.nn.init.normal_(table.weight, std=self.embedding_std)
        self.extractor.reset_parameters()
        reset_xavier(self.encoder)
        reset_xavier(self.predictor)
        torch.nn.init.zeros_(self.item_weight)
        torch.nn.init.zeros_(self.item_bias)
        if self.scale is not None:
            torch.nn.init.constant_(self.scale, START_SCALE)
        self.get_buffer("warm").fill_(self.warmup_epochs is None)

    def start_from(self, data: HeteroData) -> None:
        """Sets by what features are standardised: mean and deviation of each dimension over the items that have it."""
        masks = modality_masks(data, list(self.in_channels))
        for name, width in self.in_channels.items():
            x = item_features(data, name, width)
            self.standardize[name].start_from(x[masks[name]] if name in masks else x)

    @torch.no_grad()
    def start_epoch(self, data: HeteroData, epoch: int, generator: torch.Generator) -> None:
        """After the warm-up, places the intents; they stay as drawn where fewer users than intents have a history."""
        intents = self.extractor.intents
        if intents is None or epoch != self.warmup_epochs or self.get_buffer("warm"):
            return
        graph = interaction_operator(data)
        tables, own = self._tables(data, graph)
        reader = graph.t()
        sample = (own + reader.mean() @ tables[ID])[reader.rowptr.diff() > 0]
        if sample.size(0) >= self.num_intents:
            intents.place(sample, generator)
        self.get_buffer("warm").fill_(True)

    def batch_options(self) -> dict[str, Any]:
        """How histories are split for training."""
        return {"hidden_share": self.hidden_share, "num_negatives": self.num_negatives}

    def forward(self, data: HeteroData) -> Representations:
        """Vectors of all users from their whole histories, in blocks, vectors of items, and users' intents."""
        graph = interaction_operator(data)
        tables, own = self._tables(data, graph)
        masks = modality_masks(data, list(self.in_channels))
        out = [
            self.extractor(tables, own[block], *_histories(graph, block), masks)
            for block in torch.arange(self.num_users, device=own.device).split(USERS_AT_ONCE)
        ]
        user, item = torch.cat([part.vector for part in out]), self._items(tables)
        if self.scale is not None:  # scale and bias travel in the vectors, so that scores are inner products
            user = torch.cat([self.scale * self._predicted(user), torch.ones_like(user[:, :1])], dim=1)
            item = torch.cat([item, self.item_bias.unsqueeze(1)], dim=1)
        intents = [part.assignment for part in out if part.assignment is not None]
        return Representations(user, item, intent=torch.cat(intents) if intents else None)

    def score(
        self, data: HeteroData, representations: Representations, user: Tensor, item: Tensor | None = None
    ) -> Tensor:
        """Logits: inner products, or the perceptron's on pairs."""
        if self.head == "inner":
            return super().score(data, representations, user, item)
        vector, every = cast("Tensor", representations.user)[user], representations.item
        item = torch.arange(self.num_items, device=every.device) if item is None else item
        chosen = item.expand(user.numel(), -1)  # [B, C]
        block = max(1, PAIRED_AT_ONCE // max(1, chosen.size(1)))
        scores = [
            self._paired(x.unsqueeze(1), every[one if item.dim() == 2 else item]) + self.item_bias[one]
            for x, one in zip(vector.split(block), chosen.split(block), strict=True)
        ]
        return torch.cat(scores)

    def score_vectors(self, representations: Representations) -> UserItem | None:
        """The vectors, unless the perceptron scores pairs."""
        if self.head != "inner" or representations.user is None:
            return None
        return UserItem(representations.user, representations.item)

    def loss(self, data: HeteroData, batch: Histories) -> dict[str, Tensor]:
        """Cross entropy of the hidden items and the terms of the intents (Eq. 18)."""
        graph, row = interaction_operator(data), segment_rows(batch.ptr)
        if self.num_layers > 0:  # what is predicted must not reach the vectors through the graph
            graph = graph.without(batch.user[row[batch.hidden]], batch.item[batch.hidden])
        tables, own = self._tables(data, graph, batch.user)
        masks = modality_masks(data, list(self.in_channels))
        out = self.extractor(tables, own, *kept_entries(batch.item, batch.ptr, ~batch.hidden), masks)
        item = torch.cat([batch.item[batch.hidden].unsqueeze(1), batch.neg_item], dim=1)  # [num_hidden, 1 + negatives]
        logits = self._logits(out.vector, self._items(tables), row[batch.hidden], item)
        label = torch.zeros_like(logits)
        label[:, 0] = 1
        entropy = F.binary_cross_entropy_with_logits(logits, label, reduction="sum")
        losses = {"bce": entropy / max(1, logits.numel())}  # Eq. 15
        intents = self.extractor.intents
        if intents is None or not self.get_buffer("warm"):
            return losses
        losses["kl"] = self.kl_weight * intent_kl(out.assignment, self.kl_of)
        losses["distance"] = self.distance_weight * (out.assignment * out.distance).sum(1).mean()  # Eq. 5
        losses["overlap"] = self.overlap_weight * intent_overlap(intents.weight, self.overlap_form)
        if self.modal_awareness and self.contrast_weight > 0:
            one, other = (self._view(batch, row, tables, own, masks) for _ in range(2))
            losses["contrast"] = self.contrast_weight * intent_contrast(one, other, self.temperature)
        return losses

    @torch.no_grad()
    def explain(self, data: HeteroData, user: int) -> Explanation:
        """A user's intents and modality weights, and which of its items carry each intent.

        Args:
            data: The graph.
            user: Its index.

        Raises:
            ValueError: If there is no such user, or the model was built without intents or modal awareness.
        """
        self.check_data(data)
        check_int(0, user=user)
        if user >= self.num_users:
            raise ValueError(f"'user' must lie in 0..{self.num_users - 1} (got {user})")
        graph = interaction_operator(data)
        chosen = torch.tensor([user], device=graph.col.device)
        tables, own = self._tables(data, graph, chosen)
        masks = modality_masks(data, list(self.in_channels))
        item, ptr = _histories(graph, chosen)
        out = self.extractor(tables, own, item, ptr, masks)
        carried = self.extractor.carried(tables, own, item, masks, out.modality[0])
        return Explanation(out.assignment[0], dict(zip(tables, out.modality[0].tolist(), strict=True)), item, carried)

    def _tables(
        self, data: HeteroData, graph: SparseOperator, user: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """By channel ``[num_items, d]`` embeddings of the items, and ``[B, d]`` of the IDs of some users, or of all."""
        every = self.item_emb.weight
        start = every.new_zeros(self.num_users, every.size(1)) if self.user_emb is None else self.user_emb.weight
        users, item = self.conv(start, every, graph)
        tables = {ID: unit_rows(item)}
        masks = modality_masks(data, list(self.in_channels))
        graphs = self._item_graphs(data) if self.num_item_layers > 0 else {}
        for name, width in self.in_channels.items():
            lin = cast("Linear", self.encoder[name])
            weight = lin.weight / self.standardize[name].deviation  # the map standardises the features
            bias = lin.bias - weight @ self.standardize[name].mean
            x = F.linear(item_features(data, name, width), weight, bias)
            if name in masks:
                x = x * masks[name].unsqueeze(1)
            for _ in range(self.num_item_layers):
                x = graphs[name] @ x
            tables[name] = unit_rows(x)
        return tables, unit_rows(users if user is None else take_rows(users, user))

    def _item_graphs(self, data: HeteroData) -> dict[str, SparseOperator]:
        graphs = similarity_operators(data)
        if not set(self.in_channels) <= set(graphs):
            raise ValueError(
                f"MMIL needs an item-item graph for each modality of its features, {sorted(self.in_channels)} (got "
                f"graphs of {sorted(graphs)}): apply pyg_mmrec.transforms.ModalKNNGraph or set 'num_item_layers' to 0"
            )
        return graphs

    def _view(
        self, batch: Histories, row: Tensor, tables: dict[str, Tensor], own: Tensor, masks: dict[str, Tensor]
    ) -> Tensor:
        """Intents from a random part of each history of two items or more (Eq. 12)."""
        count = batch.ptr.diff()
        several = count > 1
        kept = (torch.rand(row.numel(), device=row.device) < self.keep) & several[row]
        one = batch.ptr[:-1] + (torch.rand(count.numel(), device=row.device) * count).long()
        kept[one[several]] = True  # at least one item
        item, ptr = kept_entries(batch.item, batch.ptr, kept)
        ptr = torch.cat([ptr[:1], ptr[1:][several]])  # the other histories are empty
        views: Tensor = self.extractor(tables, own[several], item, ptr, masks).views
        return views

    def _items(self, tables: dict[str, Tensor]) -> Tensor:
        """Vectors of the items, channels weighed by a."""
        weight = self.item_weight.softmax(0)
        return torch.stack([w * x for w, x in zip(weight, tables.values(), strict=True)]).sum(0)

    def _predicted(self, vector: Tensor) -> Tensor:
        mapped: Tensor = self.predictor(vector)
        return vector + mapped if self.residual else mapped

    def _logits(self, vector: Tensor, every: Tensor, row: Tensor, item: Tensor) -> Tensor:
        """``[n, c]`` logits of c items for each of n rows of ``vector``."""
        x, bias = take_rows(every, item), take_rows(self.item_bias, item)
        if self.scale is None:
            return self._paired(take_rows(vector, row).unsqueeze(1), x) + bias
        return self.scale * (take_rows(self._predicted(vector), row).unsqueeze(1) * x).sum(-1) + bias

    def _paired(self, vector: Tensor, item: Tensor) -> Tensor:
        """The perceptron on pairs, by broadcast: its first layer is linear in each of the two."""
        first = cast("Linear", self.predictor[0])
        of_user, of_item = first.weight.split(self.hidden_channels, dim=1)
        out: Tensor = self.predictor[1:](vector @ of_user.t() + item @ of_item.t() + first.bias)
        return out.squeeze(-1)


def _histories(graph: SparseOperator, user: Tensor) -> tuple[Tensor, Tensor]:
    """Items of some users in the graph, and where each user's start."""
    entry = csr_entries(graph.rowptr_t.long(), user)[1]
    ptr = F.pad(graph.rowptr_t.diff()[user].cumsum(0), (1, 0))
    return graph.col_t[entry].long(), ptr

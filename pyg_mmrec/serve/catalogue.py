"""What the service knows of users and items."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from pyg_mmrec import __version__
from pyg_mmrec.models import ModelCard
from pyg_mmrec.retrieval import Retriever
from pyg_mmrec.typing import INTERACTS, ITEM, USER, WORD, NodeType, mask_key
from pyg_mmrec.utils import interactions, to_csr

#: Integers that JavaScript holds exactly.
_EXACT = 2**53
#: Words of an item's text that are shown, pictures kept encoded.
_WORDS, _PICTURES = 12, 4096


class Catalogue:
    """Users, items, histories and pictures of a model's data, by the catalogue's own ids.

    Args:
        retriever: Ranks the items; its ids are spoken, or the nodes' numbers where it has none.
        card: What is known of the model (default: nothing).

    Raises:
        ValueError: If the pictures, ``data['item'].image``, are not one uint8 picture for each item.

    Example:
        >>> from torch_geometric.data import HeteroData
        >>> from pyg_mmrec.models import Popularity
        >>> from pyg_mmrec.utils import Ids
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 1, 2
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0], [1]])
        >>> ids = Ids(user=['ann'], item=['tea', 'cup'])
        >>> catalogue = Catalogue(Retriever(Popularity.from_data(data), data, ids))
        >>> node = catalogue.node('user', 'ann')
        >>> catalogue.names('item', catalogue.history(node))
        ['cup']
    """

    def __init__(self, retriever: Retriever, card: ModelCard | None = None) -> None:
        self.retriever, self.card = retriever, card or ModelCard()
        self.sizes = {USER: retriever.num_users, ITEM: retriever.num_items}
        self._ptr, self._item = _histories(retriever)
        store = retriever.data[ITEM]
        self._image: Tensor | None = store.get("image")
        self._has_image: Tensor | None = store.get(mask_key("image"))
        if self._image is not None and (
            self._image.dtype != torch.uint8
            or self._image.dim() != 4
            or self._image.size(0) != self.sizes[ITEM]
            or self._image.size(1) not in (1, 3)
        ):
            raise ValueError(
                f"data['item'].image must be uint8 of shape [{self.sizes[ITEM]}, 1 or 3, height, width] "
                f"(got {self._image.dtype}, {list(self._image.shape)})"
            )
        texts = store.get("text")
        self._texts: list[str] | None = texts if isinstance(texts, list) and len(texts) == self.sizes[ITEM] else None
        has_words = WORD in retriever.data.node_types and "text" in retriever.data[WORD]
        self._tokens: Tensor | None = store.get("tokens") if has_words else None
        self.picture = lru_cache(_PICTURES)(self._picture)

    def node(self, node_type: NodeType, name: str | int) -> int | None:
        """The node of an id, None where there is no such id."""
        if self.retriever.ids is not None:
            return self.retriever.ids.find(node_type, name)
        if isinstance(name, str) and not (name.isascii() and name.isdecimal() and len(name) <= 20):
            return None
        return int(name) if 0 <= int(name) < self.sizes[node_type] else None

    def names(self, node_type: NodeType, nodes: Tensor) -> list[str | int]:
        """The ids of nodes; integers that JavaScript would round become strings."""
        found: list[str | int] = list(nodes.tolist())
        if self.retriever.ids is not None:
            found = self.retriever.ids.of(node_type, nodes)
        return [name if isinstance(name, str) or abs(name) < _EXACT else str(name) for name in found]

    def history(self, user: int) -> Tensor:
        """Items that a user has interacted with, the latest first where times are known."""
        return self._item[int(self._ptr[user]) : int(self._ptr[user + 1])]

    def has_picture(self, item: int) -> bool:
        """Whether an item has a picture."""
        return self._image is not None and (self._has_image is None or bool(self._has_image[item]))

    def text(self, item: int) -> str:
        """The start of an item's text, or its first words where the data has these alone."""
        if self._texts is not None:
            return " ".join(self._texts[item].split()[:_WORDS])[: 8 * _WORDS]
        if self._tokens is None:
            return ""
        words = self.retriever.data[WORD].text
        return " ".join(words[token] for token in self._tokens[item].tolist() if token > 0)[: 8 * _WORDS]

    def facts(self) -> dict[str, Any]:
        """The model, its data and its card."""
        model = self.retriever.model
        return {
            "version": __version__,
            "model": type(model).__name__,
            "num_users": self.sizes[USER],
            "num_items": self.sizes[ITEM],
            "own_ids": self.retriever.ids is not None,
            "data": dict(self.card.data),
            "metrics": dict(self.card.metrics),
            "protocol": self.card.protocol,
            "licence": self.card.licence,
        }

    def _picture(self, item: int) -> bytes | None:
        """An item's picture as PNG, None where it has none."""
        if self._image is None or not self.has_picture(item):
            return None
        from PIL import Image

        pixels = self._image[item].permute(1, 2, 0).squeeze(-1).cpu().numpy()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()


def _histories(retriever: Retriever) -> tuple[Tensor, Tensor]:
    """CSR pointers and items of the users' interactions, the latest first where times are known."""
    user, item = interactions(retriever.data).cpu()
    store = retriever.data[INTERACTS]
    time = store.get("time")
    if not isinstance(time, Tensor) or time.shape != user.shape:
        return to_csr(user, item, retriever.num_users)
    latest = time.cpu().argsort(descending=True, stable=True)
    order = latest[user[latest].argsort(stable=True)]
    return to_csr(user, item, retriever.num_users)[0], item[order]

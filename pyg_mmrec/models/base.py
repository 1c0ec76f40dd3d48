"""The contract between a model and everything that trains, evaluates, explains or serves it."""

from __future__ import annotations

import difflib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models._extend import NewRows, extend
from pyg_mmrec.models._saved import build, read_config
from pyg_mmrec.models._saved import write as write_model
from pyg_mmrec.models.card import ModelCard
from pyg_mmrec.typing import ITEM, Batches, Reach, feature_key
from pyg_mmrec.utils import interactions, num_users_items, rank_items, seen_items, with_operators
from pyg_mmrec.utils.checks import check_flag, check_int
from pyg_mmrec.utils.hetero import count_categories, item_categories, item_channels
from pyg_mmrec.utils.modes import evaluating
from pyg_mmrec.utils.popular import Fallback, popular_items

Model = TypeVar("Model", bound="Recommender")


class UserItem(NamedTuple):
    """Embeddings of users and items in one space."""

    user: Tensor  #: ``[num_users, channels]``
    item: Tensor  #: ``[num_items, channels]``


class Representations(NamedTuple):
    """What a model computes from the graph; diagnostics and plug-ins read these names.

    The first two are the final embeddings; the rest is filled where the method has it.
    """

    user: Tensor | None  #: ``[num_users, channels]``; None where users have no vector of their own
    item: Tensor  #: ``[num_items, channels]``
    behavior: UserItem | None = None  #: learned from interactions alone
    modal: UserItem | None = None  #: learned from modal features
    generic: dict[str, Tensor] | None = None  #: what modalities share, ``[num_items, channels]`` each
    unique: dict[str, Tensor] | None = None  #: what one modality has alone, ``[num_items, channels]`` each
    intent: Tensor | None = None  #: ``[num_users, num_intents]``


class Recommender(torch.nn.Module, ABC):
    """Base class of all models.

    A subclass gives ``__init__`` with the sizes first and its hyper-parameters as keywords, each kept as an
    attribute of the same name, :meth:`forward` and :meth:`loss`. ``forward`` is pure: it stores nothing, changes no
    input, and its randomness is the module's train-mode dropout.

    Args:
        num_users: Number of users.
        num_items: Number of items.
    """

    #: Node types whose modal kNN graphs the model reads (see :class:`pyg_mmrec.transforms.ModalKNNGraph`).
    modal_graphs: ClassVar[tuple[str, ...]] = ()

    #: Whether the model reads the graph of users with common items (:class:`pyg_mmrec.transforms.UserCooccurrence`).
    user_cooccurrence: ClassVar[bool] = False

    #: Whether representations tell ``behavior`` from ``modal``, which :class:`WithBMA` aligns.
    two_lines: bool = False

    #: What :meth:`loss` takes: ``'triplets'``, ``Triplets`` of interactions, or ``'histories'``, ``Histories`` of users
    #: (``pyg_mmrec.typing``).
    batches: ClassVar[Batches] = "triplets"

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__()
        check_int(1, num_users=num_users, num_items=num_items)
        self.num_users = num_users
        self.num_items = num_items

    def __call__(self, data: HeteroData, *args: Any, **kwargs: Any) -> Any:
        """:meth:`forward`, on a graph of the model's size."""
        self.check_data(data)
        return super().__call__(data, *args, **kwargs)

    def check_data(self, data: HeteroData) -> None:
        """Refuses a graph of other numbers of users, items or categories, or another precision, than the model's.

        Raises:
            ValueError: If they differ.
        """
        size, own = num_users_items(data), (self.num_users, self.num_items)
        if "n_id" in data[ITEM]:
            if self.reach() is None:
                raise ValueError(f"{type(self).__name__} reads the whole graph and cannot be run on a sample of it")
        elif size != own:
            raise ValueError(
                f"the data has {size[0]} users and {size[1]} items but {type(self).__name__} was built for {own[0]} "
                f"and {own[1]}: pass the data it was built for, or build it with {type(self).__name__}.from_data"
            )
        weight = next(self.parameters(), None)
        for key in map(feature_key, getattr(self, "in_channels", {})):
            x = data[ITEM].get(key)
            if isinstance(x, Tensor) and x.dtype == torch.float64 and weight is not None and weight.dtype != x.dtype:
                raise ValueError(f"data['item'].{key} is float64 but the model {weight.dtype}: store it as x.float()")
        if num_categories := getattr(self, "num_categories", 0):
            item_categories(data, num_categories)

    def reset_parameters(self) -> None:
        """Draws all parameters anew from torch's global generator."""
        for module in self.children():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()

    @abstractmethod
    def forward(self, data: HeteroData) -> Representations:
        """Representations of all users and items of the graph."""

    @abstractmethod
    def loss(self, data: HeteroData, batch: Any) -> dict[str, Tensor]:
        """Named, already weighted scalars for a batch; their sum is trained."""

    def score(
        self, data: HeteroData, representations: Representations, user: Tensor, item: Tensor | None = None
    ) -> Tensor:
        """Scores of items for users: the inner product, where a model says nothing else.

        Args:
            data: The graph.
            representations: What :meth:`forward` gave for it.
            user: ``[B]`` users.
            item: None for all items, ``[C]`` for the same candidates for all, ``[B, C]`` for candidates by user.

        Returns:
            ``[B, num_items]`` or ``[B, C]``.
        """
        if representations.user is None:
            raise TypeError(f"{type(self).__name__} has no user vectors and must define its own 'score'")
        user_emb = representations.user[user]
        if item is None:
            return user_emb @ representations.item.t()
        if item.dim() == 1:
            return user_emb @ representations.item[item].t()
        return torch.einsum("bd,bcd->bc", user_emb, representations.item[item])

    def score_vectors(self, representations: Representations) -> UserItem | None:
        """Vectors whose inner products are all of :meth:`score`; None where scores are something else.

        Args:
            representations: What :meth:`forward` gave.
        """
        if type(self).score is not Recommender.score or representations.user is None:
            return None
        return UserItem(representations.user, representations.item)

    @torch.no_grad()
    def recommend(
        self,
        data: HeteroData,
        user: Tensor,
        k: int = 10,
        exclude_seen: bool = True,
        block_size: int = 1024,
        fallback: Fallback | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The k best items for each user.

        Args:
            data: The graph the model reads, the train view of a split or whole.
            user: ``[n]`` user indices.
            k: How many items (default: 10).
            exclude_seen: Leave out what the user has interacted with in the graph (default: True).
            block_size: Users scored at a time.
            fallback: What users without interactions in the graph get, whose representations nothing was learned for:
                None (default), the model's items all the same, ``'popular'`` the most popular, ``'recent'`` the most
                popular of late, with numbers of interactions for scores (:func:`~pyg_mmrec.utils.popular_items`).

        Returns:
            ``[n, k]`` scores and ``[n, k]`` items, best first; -1 where a user has fewer than k items left.

        Raises:
            ValueError: If an argument is out of range, or the data is not of the model's size.
        """
        check_flag(exclude_seen=exclude_seen)
        if not isinstance(user, Tensor) or user.dtype != torch.int64 or user.dim() != 1:
            found = f"{user.dtype}, {list(user.shape)}" if isinstance(user, Tensor) else type(user).__name__
            raise ValueError(f"'user' must be a tensor of user ids, int64 of shape [n] (got {found})")
        self.check_data(data)
        if user.numel() and not 0 <= int(user.min()) <= int(user.max()) < self.num_users:
            raise ValueError(f"'user' must lie in 0..{self.num_users - 1} (got {int(user.min())}..{int(user.max())})")
        with evaluating(self):
            data = with_operators(data)
            representations = self(data)
            scores, items = rank_items(
                lambda users, items: self.score(data, representations, users, items),
                user,
                k,
                self.num_items,
                seen_items(data) if exclude_seen else None,
                block_size=block_size,
            )
        if fallback is not None:
            count, popular = popular_items(data, k, fallback)
            without = torch.bincount(interactions(data)[0], minlength=self.num_users)[user] == 0
            scores[without], items[without] = count, popular
        return scores, items.masked_fill(scores == -torch.inf, -1)

    @property
    def modal_channels(self) -> dict[str, int]:
        """Widths of :meth:`modal_items` by modality."""
        projection = getattr(self, "projection", None)
        return {} if projection is None else dict.fromkeys(projection.in_channels, projection.out_channels)

    def modal_items(self, data: HeteroData) -> dict[str, Tensor]:
        """By modality ``[num_items, channels]``, what the model makes of its items' features: what plug-ins act on.

        By default what the model's :class:`~pyg_mmrec.nn.ModalProjection` gives; empty where the method has no
        representation of a single modality.
        """
        projection = getattr(self, "projection", None)
        return {} if projection is None else projection(data)

    def resample(self, data: HeteroData, generator: torch.Generator) -> HeteroData:
        """The graph that one epoch's training sees; by default the whole. Evaluation always sees the whole.

        Raises:
            ValueError: As :meth:`check_data`.
        """
        self.check_data(data)
        return data

    def start_epoch(self, data: HeteroData, epoch: int, generator: torch.Generator) -> None:
        """Changes the model before an epoch's first batch; by default not at all.

        Not called again where a stopped epoch goes on: what it changes must be parameters or buffers.

        Args:
            data: The training graph, whole.
            epoch: The epoch's number, from 0.
            generator: Source of all randomness.
        """

    def auxiliary_parameters(self) -> Iterator[torch.nn.Parameter]:
        """Parameters of inner estimators, trained on :meth:`auxiliary_loss` before each step and not by it."""
        return iter(())

    def auxiliary_loss(self, data: HeteroData, batch: Any) -> dict[str, Tensor]:
        """Named losses of the inner estimators; empty for models without any."""
        return {}

    def reach(self) -> Reach | None:
        """How far from its batch :meth:`loss` reads the graph, where training on sampled subgraphs is possible.

        Such a model looks its tables up by :func:`pyg_mmrec.utils.graph_ids` and the graph by
        :func:`pyg_mmrec.utils.interaction_operators`. By default None: the loss reads the whole graph.
        """
        return None

    def batch_options(self) -> dict[str, Any]:
        """Arguments of the loader of :attr:`batches` that are the model's to choose; by default none."""
        return {}

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        return {
            name: getattr(self, name) for name in inspect.signature(type(self).__init__).parameters if name != "self"
        }

    @classmethod
    def from_data(cls: type[Model], data: HeteroData, **kwargs: Any) -> Model:
        """Builds the model with the sizes that its signature names, read from the data.

        Args:
            data: The graph.
            kwargs: The other arguments of the constructor.

        Raises:
            ValueError: If an argument is out of range, or the data lacks its sizes or has features of another form.
        """
        names = inspect.signature(cls.__init__).parameters
        in_channels = item_channels(data) if "in_channels" in names else {}
        num_categories = count_categories(data) if "num_categories" in names else 0
        model = cls(**(cls.sizes(*num_users_items(data), in_channels, num_categories) | kwargs))
        model.start_from(data)
        return model

    def start_from(self, data: HeteroData) -> None:
        """Sets what starts at values of the data, such as trained features; by default nothing."""

    def extend(
        self: Model, data: HeteroData, new: Tensor | None = None, rows: NewRows = "neighbors", k: int = 10
    ) -> Model:
        """The trained model for a catalogue with items that it has not seen, without training.

        What the model computes from features and graphs needs no more than these items' features in the data. What it
        keeps for each item, such as ID embeddings, cannot be known of a new one: its row is the mean over those of the
        known items with the most similar features, so that models that read no features rank new items too.

        Args:
            data: The graph with the same users, the model's items first and then the new ones, with the graphs that the
                model reads.
            new: ``[n]`` items whose rows are made anew besides those beyond the model's size, such as items without
                interactions in training (default: none).
            rows: ``'neighbors'`` (default) is the mean over the k nearest known items by cosine, all modalities alike
                (over those that the data's item graphs link to the new one, where it has no features; over all for an
                item without either), ``'mean'`` that over all known items, ``'zero'`` zeros.
            k: Known items for each new one and modality (default: 10).

        Returns:
            A new model of the same class on the same device; this one stays as it is.

        Raises:
            ValueError: If an argument is out of range, the data has other users or fewer items, or neither features nor
                item graphs where rows are to be made from neighbours.
        """
        return extend(self, data, new, rows, k)

    @classmethod
    def sizes(
        cls, num_users: int, num_items: int, in_channels: dict[str, int], num_categories: int = 0
    ) -> dict[str, Any]:
        """Of these sizes, those that the constructor's signature names."""
        given = {"num_users": num_users, "num_items": num_items, "in_channels": in_channels}
        given |= {"num_categories": num_categories}
        names = inspect.signature(cls.__init__).parameters
        return {name: value for name, value in given.items() if name in names}

    def save_pretrained(self, path: str | Path, card: ModelCard | None = None) -> None:
        """Writes a folder: weights, class and constructor's arguments, and a card.

        ``model.safetensors``; ``config.json`` with the format's version, the class, its arguments and the hash of the
        weights; ``card.json`` and ``README.md``.

        Args:
            path: The folder; made if it is not there.
            card: What is known of the data, the metrics, the protocol and the licence (default: nothing).
        """
        write_model(Path(path), self, self.config())
        (card or ModelCard()).save(path)

    @classmethod
    def from_pretrained(cls: type[Model], path: str | Path) -> Model:
        """Loads what :meth:`save_pretrained` wrote; ``Recommender.from_pretrained`` loads any model of the package.

        Raises:
            FileNotFoundError: If the folder lacks one of the two files.
            ValueError: If the folder holds another class of model, arguments that it refuses, weights that do not fit,
                which is found before memory is taken for them, or others than were saved, or is of another format.
        """
        folder = Path(path)
        name, init_args = read_config(folder)
        return build(cls._saved_class(folder, name), init_args, folder)

    @classmethod
    def _saved_class(cls: type[Model], folder: Path, name: Any) -> type[Model]:
        """The class that a saved model names."""
        found = [sub for sub in _subclasses(cls) if sub.__name__ == name]
        if len(found) == 1 or cls in found:
            return cls if cls in found else found[0]
        if found:
            where = ", ".join(sorted(f"{sub.__module__}.{name}" for sub in found))
            raise ValueError(
                f"'{folder}' holds a {name}, and there are several: call from_pretrained of one of {where}"
            )
        known = any(name == sub.__name__ for base in Recommender.__subclasses__() for sub in _subclasses(base))
        fix = f"load it with {name}.from_pretrained" if known else "import its class first"
        raise ValueError(f"'{folder}' holds a {name}, not a {cls.__name__}: {fix}")


def find_model(name: str) -> type[Recommender]:
    """The model of a name, among all that are defined.

    Raises:
        ValueError: If there is none; names the nearest.
    """
    found = (sub for cls in Recommender.__subclasses__() for sub in _subclasses(cls))
    classes = {sub.__name__: sub for sub in found if not inspect.isabstract(sub)}
    if not isinstance(name, str) or name not in classes:
        near = difflib.get_close_matches(str(name), list(classes), 1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(sorted(classes))}"
        raise ValueError(f"there is no model {name!r}, {hint}")
    return classes[name]


def _subclasses(cls: type[Model]) -> Iterator[type[Model]]:
    yield cls
    for sub in cls.__subclasses__():
        yield from _subclasses(sub)

"""What a benchmark consists of."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch_geometric.data import HeteroData, InMemoryDataset

from pyg_mmrec.benchmark.prepare import Views, default_split, prepare
from pyg_mmrec.benchmark.runner import Candidate, split_hash
from pyg_mmrec.benchmark.search import Range, Space, check_space
from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.training import Trainer
from pyg_mmrec.transforms import ModalKNNGraph, UserCooccurrence
from pyg_mmrec.transforms.split import InteractionSplit
from pyg_mmrec.utils.checks import check_int, check_names

#: Settings of the trainer that a suite may change.
TRAINER_ARGS = (
    *("max_epochs", "patience", "evaluate_every", "batch_size", "learning_rate", "precision"),
    *("checkpoint_minutes", "checkpoint_epochs"),
)
#: The two kinds of arguments that are searched.
PARTS = ("init_args", "trainer_args")
#: Names that a table would give back as missing.
_MISSING = {"na", "nan", "none", "null"}


@dataclass(frozen=True)
class SuiteDataset:
    """A data set, and how it is split and linked.

    Attributes:
        dataset: The class.
        init_args: Its arguments; ``root`` is not part of what is compared when a benchmark goes on.
        split: Class of the split; by default as :func:`default_split` says.
        split_args: Its arguments.
        graph: Arguments of :class:`~pyg_mmrec.transforms.ModalKNNGraph`.
        cooccurrence: Arguments of :class:`~pyg_mmrec.transforms.UserCooccurrence`.
    """

    dataset: type[InMemoryDataset]
    init_args: Mapping[str, Any] = field(default_factory=dict)
    split: type[InteractionSplit] | None = None
    split_args: Mapping[str, Any] = field(default_factory=dict)
    graph: Mapping[str, Any] = field(default_factory=dict)
    cooccurrence: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> tuple[HeteroData, InteractionSplit]:
        """The whole graph, and its split."""
        data = self.dataset(**self.init_args)[0]
        return data, self.split(**self.split_args) if self.split else default_split(data)

    def views(self, methods: Sequence[SuiteMethod]) -> Views:
        """Train, validation and test view with the graphs that the methods read."""
        data, split = self.load()
        models = [method.candidate.model for method in methods]
        return prepare(data, models, split, ModalKNNGraph(**self.graph), UserCooccurrence(**self.cooccurrence))

    def describe(self) -> dict[str, Any]:
        """What decides the data, in the form of a suite's file."""
        init_args = {name: value for name, value in self.init_args.items() if name != "root"}
        found = _class(self.dataset, init_args)
        if self.split is not None:
            found["split"] = _class(self.split, self.split_args)
        graphs = {"graph": self.graph, "cooccurrence": self.cooccurrence}
        return found | {name: dict(args) for name, args in graphs.items() if args}


@dataclass(frozen=True)
class SuiteMethod:
    """A model with its search space and its published values.

    Attributes:
        candidate: The model, its fixed arguments, the settings of the trainer that are its own, and its label.
        space: What is searched: choices or :class:`Range` by name, ``'init_args.NAME'`` for an argument of the model,
            ``'trainer_args.NAME'`` for one of the trainer.
        published: By data set, published values of metrics, and as ``'where'`` the place that they are from.
    """

    candidate: Candidate
    space: Space = field(default_factory=dict)
    published: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def at(self, point: Mapping[str, Any]) -> Candidate:
        """The candidate with the arguments of a point of the space."""
        changed: dict[str, dict[str, Any]] = {part: dict(getattr(self.candidate, part)) for part in PARTS}
        for name, value in point.items():
            part, _, argument = name.partition(".")
            changed[part][argument] = value
        return replace(self.candidate, init_args=changed["init_args"], trainer_args=changed["trainer_args"])

    def corners(self) -> Iterator[Candidate]:
        """Candidates that together have all choices and the ends of all ranges."""
        ends = {
            name: [values.low, values.high] if isinstance(values, Range) else list(values)
            for name, values in self.space.items()
        }
        first = {name: values[0] for name, values in ends.items()}
        yield self.at(first)
        for name, values in ends.items():
            yield from (self.at({**first, name: value}) for value in values[1:])

    def describe(self) -> dict[str, Any]:
        """The method in the form of a suite's file."""
        found = _class(self.candidate.model, self.candidate.init_args)
        if self.candidate.trainer_args:
            found["trainer_args"] = dict(self.candidate.trainer_args)
        search: dict[str, dict[str, Any]] = {}
        for name, values in self.space.items():
            part, _, argument = name.partition(".")
            plain = vars(values).copy() if isinstance(values, Range) else list(values)
            search.setdefault(part, {})[argument] = plain
        found |= {"search": search} if search else {}
        return found | ({"published": {k: dict(v) for k, v in self.published.items()}} if self.published else {})

    def check(self) -> None:
        """Refuses what is searched and fixed at once, or is no argument of the model or the trainer."""
        if self.space:
            check_space(self.space)
        for name in self.space:
            part, _, argument = name.partition(".")
            if part not in PARTS or not argument:
                raise ValueError(f"'{name}' in the search space must begin with init_args. or trainer_args.")
            if argument in getattr(self.candidate, part):
                raise ValueError(f"'{argument}' is searched and fixed in {part}: leave out one of the two")


@dataclass(frozen=True)
class SuiteFacts:
    """What checking a suite on a data set found."""

    protocol: str  #: of the split
    split_hash: str  #: see :func:`split_hash`
    untrained: frozenset[str]  #: labels of the models without parameters, which run once


@dataclass(frozen=True)
class Suite:
    """Methods, data sets and seeds that are compared, and how each method's arguments are chosen.

    Attributes:
        datasets: The data sets by name.
        methods: What is compared.
        seeds: Of the test runs.
        trials: Budget of each method's search on each data set, the same for all.
        search_seed: Of the points that are tried, and of their training.
        search_trainer: Settings of the trainer that differ while searching, such as fewer epochs.
        trainer: Settings of the trainer.
        metrics: What is evaluated.
        monitor: The validation metric that selects epochs and points.
        evaluator: Other arguments of the :class:`~pyg_mmrec.evaluation.Evaluator`.

    Raises:
        ValueError: If a name or a setting is refused; says which.
    """

    datasets: Mapping[str, SuiteDataset]
    methods: Sequence[SuiteMethod]
    seeds: Sequence[int] = (0, 1, 2)
    trials: int = 0
    search_seed: int = 0
    search_trainer: Mapping[str, Any] = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[str] = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
    monitor: str = "recall@20"
    evaluator: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_labels("datasets", list(self.datasets))
        _check_labels("methods", [method.candidate.name for method in self.methods])
        check_names(metrics=self.metrics)
        check_int(0, trials=self.trials, search_seed=self.search_seed)
        for seed in self.seeds:
            check_int(0, seeds=seed)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"'seeds' must be different numbers, at least one (got {list(self.seeds)})")
        Trainer(monitor=self.monitor, evaluator=self.make_evaluator())
        for method in self.methods:
            self._check_method(method)

    def _check_method(self, method: SuiteMethod) -> None:
        try:
            method.check()
            if method.space and not self.trials:
                raise ValueError("has a search space: set the number of trials")
            for name in self.search_trainer:
                if f"trainer_args.{name}" in method.space:
                    raise ValueError(f"'{name}' is searched, but the settings of the search fix it: leave out one")
            for label, values in method.published.items():
                _known("'published' has the unknown data set", label, self.datasets)
                for name in values:
                    _known("'published' has the unknown metric", name, (*self.metrics, "where"))
            for candidate in method.corners():
                for search in (True, False):
                    settings = self.trainer_args(candidate, search)
                    for name in settings:
                        _known("unknown setting of the trainer", name, TRAINER_ARGS)
                    Trainer(**settings, monitor=self.monitor, evaluator=self.make_evaluator())
        except ValueError as error:
            raise ValueError(f"{method.candidate.name}: {error}") from None

    def trainer_args(self, candidate: Candidate, search: bool) -> dict[str, Any]:
        """The settings of the trainer for a candidate."""
        return {**self.trainer, **candidate.trainer_args, **(self.search_trainer if search else {})}

    def make_evaluator(self) -> Evaluator:
        """What grades the models while they are trained, and at test."""
        return Evaluator(list(self.metrics), **self.evaluator)

    def check(self) -> dict[str, SuiteFacts]:
        """Loads each data set and builds each model with all values that it may get; trains nothing.

        Returns:
            By data set, what is known of it from then on.

        Raises:
            ValueError: If a data set, a split or a model refuses its arguments; says which.
        """
        return {name: self._check_on(name, dataset) for name, dataset in self.datasets.items()}

    def _check_on(self, name: str, dataset: SuiteDataset) -> SuiteFacts:
        where, untrained, evaluator = f"data set {name}", [], self.make_evaluator()
        try:
            data, split = dataset.load()
            views: Views = split(data)
            evaluator.check(views[1])
            evaluator.check(views[2])
            for method in self.methods:
                where = f"{method.candidate.name} on {name}"
                for candidate in method.corners():
                    with torch.random.fork_rng(devices=[]):
                        model = candidate.model.from_data(views[0], **candidate.init_args)
                if not any(parameter.requires_grad for parameter in model.parameters()):
                    untrained.append(method.candidate.name)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where}: {error}") from error
        return SuiteFacts(split.protocol, split_hash(views), frozenset(untrained))

    def describe(self) -> dict[str, Any]:
        """The suite as its file holds it, every setting named."""
        found = {
            "datasets": {name: dataset.describe() for name, dataset in self.datasets.items()},
            "models": {method.candidate.name: method.describe() for method in self.methods},
            "seeds": list(self.seeds),
            "search": {"trials": self.trials, "seed": self.search_seed, "trainer_args": dict(self.search_trainer)},
            "trainer": dict(self.trainer),
            "metrics": list(self.metrics),
            "monitor": self.monitor,
            "evaluator": dict(self.evaluator),
        }
        plain: dict[str, Any] = json.loads(json.dumps(found))
        return plain


def check_extends(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> None:
    """Refuses a suite that differs from an earlier one in more than added models, seeds, data sets or trials.

    Args:
        old: What :meth:`Suite.describe` gave.
        new: The same of the suite that is to go on.
        where: Name of the earlier one, for the message.

    Raises:
        ValueError: Names the first difference.
    """
    if lost := [seed for seed in old["seeds"] if seed not in new["seeds"]]:
        raise ValueError(f"'seeds' lacks {', '.join(map(str, lost))}, which {where} has{_OTHER}")
    if new["search"]["trials"] < old["search"]["trials"]:
        raise ValueError(
            f"'search.trials' is {new['search']['trials']}, below the {old['search']['trials']} of {where}{_OTHER}"
        )
    for kind in ("datasets", "models"):
        for name in old[kind]:
            if name not in new[kind]:
                raise ValueError(f"'{kind}' lacks '{name}', which {where} has{_OTHER}")
    before, after = (_flat({**suite, "seeds": [], "search": {**suite["search"], "trials": 0}}) for suite in (old, new))
    for key in sorted(before.keys() | after.keys()):
        if key[0] in ("datasets", "models") and key[1] not in old[key[0]]:
            continue  # added
        if before.get(key) != after.get(key):
            was, now = (f"{part[key]!r}" if key in part else "not there" for part in (before, after))
            raise ValueError(f"'{'.'.join(key)}' is {now}, in {where} it is {was}{_OTHER}")


_OTHER = ": put it back, or choose another output folder"


def _flat(value: Any, key: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """The entries of nested dictionaries by their paths."""
    if not isinstance(value, Mapping) or not value:
        return {key: value}
    return {path: entry for name, part in value.items() for path, entry in _flat(part, (*key, str(name))).items()}


def _class(cls: type, init_args: Mapping[str, Any]) -> dict[str, Any]:
    """A class and its arguments as the command line reads them."""
    own = cls.__module__.startswith("pyg_mmrec.")
    path = cls.__name__ if own else f"{cls.__module__}.{cls.__qualname__}"
    return {"class_path": path} | ({"init_args": dict(init_args)} if init_args else {})


def _check_labels(kind: str, names: Sequence[str]) -> None:
    """Names are names of folders and entries of tables."""
    if not names:
        raise ValueError(f"'{kind}' must have at least one entry (got none)")
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[^\W\d_][\w .,+()=-]*(?<![ .])", name):
            raise ValueError(
                f"'{kind}' has the name {name!r}, which must begin with a letter and go on with letters, digits, "
                "spaces or any of _.,+()=-"
            )
        if name.lower() in _MISSING:
            raise ValueError(f"'{kind}' has the name {name!r}, which tables read as a missing value: choose another")
    same = {name.lower() for name in names}
    if len(same) < len(names):
        raise ValueError(f"'{kind}' must have names that differ in more than upper and lower case (got {names})")


def _known(what: str, name: str, known: Sequence[str] | Mapping[str, Any]) -> None:
    """Refuses a name that is not among the known ones."""
    if name not in known:
        near = difflib.get_close_matches(str(name), list(known), 1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
        raise ValueError(f"{what} '{name}'; {hint}")

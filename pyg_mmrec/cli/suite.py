"""The file of a benchmark's suite: read and checked, key by key, before anything is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import yaml
from jsonargparse import get_loader

from pyg_mmrec.benchmark import Candidate, Range, Suite, SuiteDataset, SuiteMethod
from pyg_mmrec.benchmark.suite import PARTS, TRAINER_ARGS
from pyg_mmrec.cli.parser import CHOICES, Parser, check_argument, fail, find, nearest
from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.training import Trainer
from pyg_mmrec.transforms import ModalKNNGraph, UserCooccurrence

#: Keys of a suite, and of its parts.
KEYS = ("datasets", "models", "seeds", "search", "trainer", "metrics", "monitor", "evaluator")
DATASET_KEYS = ("class_path", "init_args", "split", "graph", "cooccurrence")
MODEL_KEYS = ("class_path", "init_args", "trainer_args", "search", "published")
SEARCH_KEYS = ("trials", "seed", "trainer_args")


def read_suite(path: str | Path, root: str) -> Suite:
    """Reads a suite; anything wrong with it ends the command with one line that names the key.

    Args:
        path: The YAML file.
        root: The ``root`` of data sets that name none.
    """
    return _Reader(Path(path), root).suite()


class _Reader:
    def __init__(self, path: Path, root: str) -> None:
        self.path, self.root = path, root
        try:
            text = path.read_text(encoding="utf-8")
            tree = yaml.compose(text, yaml.SafeLoader)
            content = get_loader("yaml")(text)
        except OSError as error:
            fail(f"cannot read the suite '{path}': {error.strerror}")
        except yaml.MarkedYAMLError as error:
            line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
            fail(f"cannot read the suite '{path}': {error.problem}{line}")
        except (ValueError, yaml.YAMLError) as error:
            fail(f"cannot read the suite '{path}': {error}")
        for key in _repeated(tree):
            fail(f"{path}: the key '{key.value}' in line {key.start_mark.line + 1} is there twice")
        self.content = self._mapping("the suite", content, KEYS, ("datasets", "models"))

    def suite(self) -> Suite:
        """The whole."""
        search = self._mapping("search", self.content.get("search", {}), SEARCH_KEYS)
        self._settings("search.trainer_args", search.get("trainer_args", {}))
        self._settings("trainer", self.content.get("trainer", {}))
        datasets = self._mapping("datasets", self.content["datasets"])
        models = self._mapping("models", self.content["models"])
        evaluator = self.content.get("evaluator", {})
        self._arguments("evaluator", Evaluator, evaluator, ("block_size", "seed"))
        given = {"seeds": "seeds", "trainer": "trainer", "metrics": "metrics", "monitor": "monitor"}
        arguments = {name: self.content[key] for name, key in given.items() if key in self.content}
        for name in ("seeds", "metrics"):
            if not isinstance(arguments.get(name, []), list):
                fail(f"{self.path}: '{name}' must be a list (got {arguments[name]!r})")
        with self._at(""):
            return Suite(
                {name: self._dataset(f"datasets.{name}", part) for name, part in datasets.items()},
                [self._method(f"models.{name}", str(name), part) for name, part in models.items()],
                trials=search.get("trials", 0),
                search_seed=search.get("seed", 0),
                search_trainer=search.get("trainer_args", {}),
                evaluator=evaluator,
                **arguments,
            )

    def _dataset(self, where: str, content: Any) -> SuiteDataset:
        section = self._mapping(where, content, DATASET_KEYS, ("class_path",))
        cls, init_args = self._class(where, "dataset", section, {"root": self.root})
        split: Any = None
        split_args: dict[str, Any] = {}
        if "split" in section:
            part = section["split"]
            part = {"class_path": part} if isinstance(part, str) else part
            part = self._mapping(f"{where}.split", part, ("class_path", "init_args"), ("class_path",))
            split, split_args = self._class(f"{where}.split", "split", part)
        for name, kind in (("graph", ModalKNNGraph), ("cooccurrence", UserCooccurrence)):
            self._arguments(f"{where}.{name}", kind, section.get(name, {}), None, {"node_type"})
        graphs = section.get("graph", {}), section.get("cooccurrence", {})
        if split is not None:
            with self._at(f"{where}.split"):
                split(**split_args)
        return SuiteDataset(cls, init_args, split, split_args, *graphs)

    def _method(self, where: str, label: str, content: Any) -> SuiteMethod:
        section = self._mapping(where, {} if content is None else content, MODEL_KEYS)
        section.setdefault("class_path", label)
        cls, init_args = self._class(where, "model", section)
        settings = self._settings(f"{where}.trainer_args", section.get("trainer_args", {}))
        search = self._mapping(f"{where}.search", section.get("search", {}), PARTS)
        space: dict[str, Any] = {}
        for part in search:
            for name, values in self._mapping(f"{where}.search.{part}", search[part]).items():
                place = f"{where}.search.{part}.{name}"
                space[f"{part}.{name}"] = found = self._choices(place, values)
                for value in [found.low, found.high] if isinstance(found, Range) else found:
                    if part == "init_args":
                        self._class(place, "model", {**section, "init_args": {**init_args, name: value}})
                    else:
                        self._settings(place, {name: value})
        published = self._mapping(f"{where}.published", section.get("published", {}))
        for name, values in published.items():
            self._mapping(f"{where}.published.{name}", values)
        return SuiteMethod(Candidate(cls, init_args, settings, label), space, published)

    def _choices(self, where: str, values: Any) -> Range | list[Any]:
        """Choices or a range."""
        if isinstance(values, Mapping):
            section = self._mapping(where, values, ("low", "high", "log"), ("low", "high"))
            with self._at(where):
                return Range(**section)
        if not isinstance(values, list) or not values:
            fail(f"{self.path}: {where} must be a list of choices or a range of low and high (got {values!r})")
        return values

    def _class(
        self, where: str, group: str, section: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """The class of a section and its arguments, whose names and types are checked."""
        cls = find(group, section["class_path"], f"{self.path}: {where}: ")
        known = {name for name in (defaults or {}) if name in _parameters(cls)}
        given = self._mapping(f"{where}.init_args", section.get("init_args", {}))
        arguments = {**{name: (defaults or {})[name] for name in known}, **given}
        for name in arguments:
            check_argument(group, cls, name, f"{self.path}: {where}: ")
        parser = self._parser(where)
        hidden = CHOICES[group][2]
        parser.add_subclass_arguments(CHOICES[group][1], group, skip=hidden, instantiate=False, required=True)
        parser.parse_object({group: {"class_path": section["class_path"], "init_args": arguments}})
        return cls, arguments

    def _settings(self, where: str, content: Any) -> dict[str, Any]:
        """Settings of the trainer."""
        return self._arguments(where, Trainer, content, TRAINER_ARGS)

    def _arguments(
        self, where: str, cls: type, content: Any, known: Sequence[str] | None, hidden: Collection[str] = ()
    ) -> dict[str, Any]:
        """Arguments of a class, whose names and types are checked."""
        names = [name for name in _parameters(cls) if name not in hidden and (known is None or name in known)]
        given = self._mapping(where, content, names)
        parser = self._parser(where)
        skip = {name for name in _parameters(cls) if name not in names}
        parser.add_class_arguments(cls, skip=skip, instantiate=False)
        parser.parse_object(given)
        with self._at(where):
            cls(**given)
        return given

    def _parser(self, where: str) -> Parser:
        located = type("Located", (Parser,), {"where": f"{self.path}: {where}: "})  # which it makes more of
        return cast("Parser", located())

    def _mapping(
        self, where: str, content: Any, known: Sequence[str] | None = None, required: Sequence[str] = ()
    ) -> dict[str, Any]:
        """A section, whose keys are checked."""
        if not isinstance(content, Mapping):
            fail(f"{self.path}: {where} must hold 'key: value' pairs (got {content!r})")
        for key in content:
            if not isinstance(key, str):
                fail(f"{self.path}: {where} has the key {key!r}, which is no text: put it in quotes")
            if known is not None and key not in known:
                fail(f"{self.path}: {where} has the unknown key '{key}'{nearest(key, known)}")
        for key in required:
            if key not in content:
                fail(f"{self.path}: {where} lacks '{key}'")
        return dict(content)

    @contextmanager
    def _at(self, where: str) -> Iterator[None]:
        """Names the place of an error."""
        try:
            yield
        except ValueError as error:
            fail(f"{self.path}: {where}{': ' if where else ''}{error}")


def _parameters(cls: type) -> list[str]:
    return list(inspect.signature(cls).parameters)


def _repeated(node: Any) -> Iterator[Any]:
    """Keys that are in the same mapping twice, of which readers of YAML take the last without a word."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode):
                yield key
            seen.add(str(key.value))
            yield from _repeated(value)
    elif isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            yield from _repeated(entry)

"""The parser of the command line: short help, errors of one line, names checked before anything is read."""

from __future__ import annotations

import argparse
import difflib
import inspect
import pydoc
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace, get_loader
from torch_geometric.data import InMemoryDataset

import pyg_mmrec.datasets
import pyg_mmrec.models
import pyg_mmrec.transforms
from pyg_mmrec.models import Recommender
from pyg_mmrec.transforms.split import InteractionSplit

SIZES = {"num_users", "num_items", "in_channels", "num_categories", "image_shape", "num_words"}
CALLBACKS = {"transform", "pre_transform"}


def _exported(package: Any, base: type) -> dict[str, type]:
    classes = {name: getattr(package, name) for name in sorted(package.__all__)}
    return {
        name: cls
        for name, cls in classes.items()
        if isinstance(cls, type) and issubclass(cls, base) and not inspect.isabstract(cls)
    }


MODELS = _exported(pyg_mmrec.models, Recommender)
DATASETS = _exported(pyg_mmrec.datasets, InMemoryDataset)
SPLITS = _exported(pyg_mmrec.transforms, InteractionSplit)
#: What a name after a flag may be: the package's own classes, their base, and which arguments are not flags.
CHOICES: dict[str, tuple[dict[str, type], type, set[str]]] = {
    "model": (MODELS, Recommender, SIZES),
    "dataset": (DATASETS, InMemoryDataset, CALLBACKS),
    "split": (SPLITS, InteractionSplit, set()),
}
#: The groups of arguments, with their headings in the help.
TITLES = {
    "model": "model",
    "dataset": "data set",
    "split": "split",
    "graph": "item-item graphs, for the models that read them",
    "cooccurrence": "graph of users with common items, for the models that read it",
    "trainer": "training",
    "evaluator": "evaluation",
}


class _Help(DefaultHelpFormatter):
    """Help without the markup of docstrings, and with types only where they are choices."""

    def add_usage(self, usage: str | None, *args: Any, **kwargs: Any) -> None:
        if usage is not None:  # the generated one lists every flag
            super().add_usage(usage, *args, **kwargs)

    def _expand_help(self, action: argparse.Action) -> str:
        text, *kind = re.split(r" \((?:required, )?type: ", super()._expand_help(action), maxsplit=1)
        default = (
            re.search(r"default: (.+?)(?:, known subclasses: .*)?\)$", kind[0])
            if kind and "default" not in text
            else None
        )
        return plain(text) + (f" (default: {default[1]})" if default and default[1] != "null" else "")

    def _format_action_invocation(self, action: argparse.Action) -> str:
        text = re.sub(r", --\S+\+ \S+", "", super()._format_action_invocation(action))
        return text.replace("CLASS_PATH_OR_NAME", "NAME")


def plain(text: str) -> str:
    r"""A docstring's text without its markup.

    Example:
        >>> plain("``'sym'`` is :math:`\\mathbf{D}^{-1/2}`, see :func:`~pyg_mmrec.utils.knn`")
        "'sym' is D^-1/2, see knn"
    """

    def content(role: re.Match[str]) -> str:
        return re.sub(r"\\mathbf|[\\{}]", "", role[2]) if role[1] == "math" else role[2].rpartition(".")[2]

    return re.sub(r":(\w+):`~?([^`]*)`", content, text).replace("``", "")


class Parser(ArgumentParser):
    """A parser whose errors are one line."""

    where: str = ""  #: what stands before its errors

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"formatter_class": _Help, "allow_abbrev": False, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints what was wrong, and the nearest flag where one is unknown, and exits with status 2."""
        text = _readable(str(message))
        unknown = re.match(r"unknown argument (?:--|')([\w.]+)", text)
        commands = getattr(self._subcommands_action, "_name_parser_map", {}).values()
        flags = [flag for parser in (self, *commands) for action in parser._actions for flag in action.option_strings]
        near = difflib.get_close_matches(f"--{unknown[1]}", flags, 1) if unknown else []
        fail(self.where + text + (f"; did you mean '{near[0]}'?" if near else ""))

    def finish(self) -> Parser:
        """Shortens the help, once all arguments are there."""
        for action in self._actions:
            if action.dest == "print_config":
                action.help, action.metavar = "Print the configuration as YAML and exit.", ""
            if action.dest in TITLES and action.dest not in CHOICES:  # the whole group from one more file
                action.help = argparse.SUPPRESS
        for name, group in (self.groups or {}).items():
            group.title = TITLES[name]
        return self


def _readable(message: str) -> str:
    """What jsonargparse says over several lines, or with types in Python's notation."""
    key = re.match(r'Parser key "([\w.]+)"', message)
    types = re.findall(r"Expected an? (?:<class '(?:\w+\.)*(\w+)'>|typing\.Literal\[([^\n]*?)\](?=[.\s]|$))", message)
    names = dict.fromkeys(name.replace("Sequence", "list") or choices.replace(", ", " or ") for name, choices in types)
    wanted = " or ".join(name for name in names if name != "NoneType")
    value = re.search(r"(?:Got|Given) value: (.*)", message)
    if key and wanted and value:
        return f"'{key[1]}' must be {wanted} (got {value[1]!r})"
    reasons = re.findall(r"^ +- (?!Expected a (?:path|<))(.+)$", message, re.MULTILINE)
    if key and reasons:
        return f"'{key[1]}': {reasons[0]}"
    message = re.sub(r"(unrecognized arguments:|Subcommand '\w+' does not accept option)", "unknown argument", message)
    return re.sub(r"(required:|,) \w+\.(?=\w)", r"\1 ", message)


def fail(message: str) -> NoReturn:
    """Ends the command with one line on standard error and status 2."""
    sys.stderr.write(f"pyg-mmrec: error: {' '.join(message.split())}\n")
    raise SystemExit(2)


def check_names(argv: Sequence[str]) -> None:
    """Refuses unknown classes, and unknown or missing arguments of known ones, with the nearest name."""
    chosen: dict[str, type] = {}
    given: dict[str, set[str]] = {}
    flags = _flag_values(argv)
    for flag, value in flags:
        group, _, key = flag.removeprefix("--").partition(".")
        key = key.removeprefix("init_args.").partition(".")[0]
        if group in CHOICES and key in ("", "help", "class_path"):
            chosen |= {} if value is None else {group: find(group, value)}
        elif group in CHOICES:
            if group not in chosen:
                fail(f"{flag} needs a {group}: name one with --{group}")
            check_argument(group, chosen[group], key)
            given.setdefault(group, set()).add(key)
    if "-h" in argv or any(flag.endswith(("--help", ".help", "--print_config")) for flag, _ in flags):
        return
    for group, cls in chosen.items():
        for name, parameter in _arguments(group, cls).items():
            if parameter.default is parameter.empty and name not in given.get(group, ()):
                fail(f"{cls.__name__} needs --{group}.{name}")


def _flag_values(argv: Sequence[str]) -> list[tuple[str, str | None]]:
    """``--flag value`` and ``--flag=value`` as pairs: those of ``--config`` files first, classes before arguments."""
    pairs = []
    for i, token in enumerate(argv):
        if token.startswith("--"):
            flag, equals, value = token.partition("=")
            following = argv[i + 1] if i + 1 < len(argv) and not argv[i + 1].startswith("--") else None
            pairs.append((flag, value if equals else following))
    written = [pair for flag, value in pairs if flag == "--config" and value for pair in _config_values(value)]
    return [*written, *sorted(pairs, key=lambda pair: "." in pair[0])]


def _config_values(path: str) -> list[tuple[str, str | None]]:
    """The classes and their arguments in a configuration file, as flags."""
    try:
        content = get_loader("yaml")(Path(path).read_text(encoding="utf-8"))
    except Exception as error:  # the reader has types of its own
        fail(f"cannot read the configuration '{path}': {error}")
    if not isinstance(content, dict):
        fail(f"the configuration '{path}' must hold 'argument: value' pairs (got {content!r})")
    pairs: list[tuple[str, str | None]] = []
    for name, section in content.items():
        if name in CHOICES and not isinstance(section, dict):
            section = {"class_path": section}
        for key in section if name in CHOICES else ():
            if key not in ("class_path", "init_args"):
                hint = nearest(str(key), ("class_path", "init_args"))
                fail(f"'{name}' in the configuration '{path}' has the unknown key '{key}'{hint}")
        arguments = section.get("init_args", {}) if name in CHOICES else section
        if name in TITLES and not isinstance(arguments, dict):
            fail(f"'{name}' in the configuration '{path}' must hold 'argument: value' pairs (got {arguments!r})")
        if name in CHOICES:
            pairs.append((f"--{name}", section.get("class_path")))
            pairs += [(f"--{name}.{key}", None) for key in arguments]
    return pairs


def find(group: str, name: Any, where: str = "") -> type:
    """The class of that name or, for one outside the package, at that import path; errors begin with ``where``."""
    if not isinstance(name, str):
        fail(f"{where}a {group} is chosen by its name (got {name!r}){nearest('', CHOICES[group][0])}")
    classes, base, _ = CHOICES[group]
    try:
        found = classes.get(name) or (pydoc.locate(name) if "." in name else None)
    except pydoc.ErrorDuringImport as error:
        fail(f"{where}cannot import the {group} '{name}': {error.value}")
    if not (isinstance(found, type) and issubclass(found, base)) or inspect.isabstract(found):
        fail(f"{where}unknown {group} '{name}'{nearest(name, classes)}")
    return found


def chosen(group: str, choice: Namespace) -> tuple[Any, dict[str, Any]]:
    """The class of a parsed choice, and its arguments."""
    arguments = choice.get("init_args")
    given = {} if arguments is None else arguments.as_dict()
    for value in given.values():
        if isinstance(value, dict):
            value.pop("__path__", None)  # where the parser read it from
    return find(group, choice.class_path), given


def _arguments(group: str, cls: type) -> dict[str, inspect.Parameter]:
    """The parameters of a class that are flags."""
    hidden = CHOICES[group][2]
    return {name: value for name, value in inspect.signature(cls).parameters.items() if name not in hidden}


def check_argument(group: str, cls: type, name: str, where: str = "") -> None:
    """Refuses an argument that a class does not have; the error begins with ``where``."""
    known = _arguments(group, cls)
    if name not in known:
        fail(f"{where}{cls.__name__} has no argument '{name}'{nearest(name, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The nearest of the known names, or all of them, for the end of an error."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean '{near[0]}'?" if near else f"; known are {', '.join(sorted(known)) or 'none'}"

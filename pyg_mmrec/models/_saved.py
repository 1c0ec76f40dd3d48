"""What :meth:`~pyg_mmrec.models.Recommender.save_pretrained` writes; it is read before memory is taken for it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch

from pyg_mmrec.utils.files import write_atomically, write_json
from pyg_mmrec.utils.hashing import file_digest

Module = TypeVar("Module", bound=torch.nn.Module)

WEIGHTS, CONFIG = "model.safetensors", "config.json"

#: Raised when the meaning of the files changes.
FORMAT = 1


def write(folder: Path, model: torch.nn.Module, init_args: Mapping[str, Any]) -> None:
    """Writes weights and configuration; ``config.json`` comes last and holds the hash of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    state, written = {}, set()
    for name, tensor in model.state_dict().items():
        place = tensor.untyped_storage().data_ptr()
        # What two names share is written under both: safetensors takes no two tensors in the same memory.
        state[name] = tensor.clone().contiguous() if place in written else tensor.contiguous()
        written.add(place)
    write_atomically(folder / WEIGHTS, lambda path: safetensors.torch.save_file(state, path))
    content = {"format": FORMAT, "model": type(model).__name__, "init_args": init_args}
    write_json(folder / CONFIG, {**content, "weights_sha256": file_digest(folder / WEIGHTS)})


def describe(folder: Path) -> tuple[str, dict[str, Any]]:
    """The class's name, and the constructor's arguments with the number of the weights.

    Raises:
        FileNotFoundError: If the folder lacks one of the two files.
        ValueError: If it is no such file.
    """
    name, init_args = read_config(folder)
    return str(name), {**init_args, "weights": sum(map(math.prod, _saved_shapes(folder).values()))}


def read_config(folder: Path) -> tuple[Any, Any]:
    """The class's name and the constructor's arguments.

    Raises:
        FileNotFoundError: If the folder lacks one of the two files.
        ValueError: If it is no such file.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"'{folder}' has no {name}: is it a folder that 'save_pretrained' wrote?")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        found = config["model"], config["init_args"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'{folder}' does not hold a saved model: {error}") from None
    if config.get("format", FORMAT) != FORMAT:
        raise ValueError(
            f"'{folder}' is of format {config['format']!r} but this version of pyg_mmrec reads format {FORMAT}: load "
            f"it with the version that wrote it"
        )
    return found


def build(model_class: type[Module], init_args: Mapping[str, Any], folder: Path) -> Module:
    """The model with its weights; of memory it takes what the file of the weights holds.

    Raises:
        ValueError: If the class refuses the arguments, or the file holds other weights than the model has.
    """
    saved = _saved_shapes(folder)
    try:
        needed = shapes(model_class, init_args)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"the arguments in '{folder / CONFIG}' are not those of {model_class.__name__}: {reason}"
        ) from None
    for name in [*needed, *saved]:
        if saved.get(name) != needed.get(name):
            found, wanted = (str(list(side[name])) if name in side else "absent" for side in (saved, needed))
            raise ValueError(
                f"the weights in '{folder}' do not fit its {CONFIG}: '{name}' is {found} in {WEIGHTS}, "
                f"{wanted} in the model"
            )
    _check_hash(folder)
    model = model_class(**init_args)
    model.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
    return model


def _check_hash(folder: Path) -> None:
    """Refuses weights that are not those which were saved with the configuration; one without a hash is taken."""
    written = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("weights_sha256")
    if written is not None and written != file_digest(folder / WEIGHTS):
        raise ValueError(
            f"the weights in '{folder}' are not those that its {CONFIG} was saved with: {WEIGHTS} was changed or "
            f"replaced; copy the whole folder anew"
        )


def _saved_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all weights in the file."""
    try:
        with safetensors.safe_open(folder / WEIGHTS, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    except safetensors.SafetensorError as error:
        raise ValueError(f"'{folder}' does not hold a saved model: {error}") from None


def shapes(model_class: type[torch.nn.Module], init_args: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of all weights, where possible without memory for them, whatever sizes the arguments ask for."""
    try:
        with torch.device("meta"):
            model = model_class(**init_args)
    except RuntimeError:  # a constructor that reads the values of its tensors
        model = model_class(**init_args)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}

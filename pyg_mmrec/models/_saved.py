"""Reading what :meth:`~pyg_mmrec.models.Recommender.save_pretrained` wrote, before any memory is taken for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch

Module = TypeVar("Module", bound=torch.nn.Module)

WEIGHTS, CONFIG = "model.safetensors", "config.json"


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
        return config["model"], config["init_args"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'{folder}' does not hold a saved model: {error}") from None


def build(model_class: type[Module], init_args: Mapping[str, Any], folder: Path) -> Module:
    """The model with its weights; of memory it takes what the file of the weights holds.

    Raises:
        ValueError: If the class refuses the arguments, or the file holds other weights than the model has.
    """
    try:
        with safetensors.safe_open(folder / WEIGHTS, framework="pt") as file:
            saved = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    except safetensors.SafetensorError as error:
        raise ValueError(f"'{folder}' does not hold a saved model: {error}") from None
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
    model = model_class(**init_args)
    model.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
    return model


def shapes(model_class: type[torch.nn.Module], init_args: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of all weights, where possible without memory for them, whatever sizes the arguments ask for."""
    try:
        with torch.device("meta"):
            model = model_class(**init_args)
    except RuntimeError:  # a constructor that reads the values of its tensors
        model = model_class(**init_args)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}

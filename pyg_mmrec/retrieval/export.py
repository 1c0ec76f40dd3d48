"""Exports for other engines: an index of item vectors for faiss, the scores for torch.export and ONNX."""

from __future__ import annotations

import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyg_mmrec.retrieval.retriever import Retriever
from pyg_mmrec.utils.files import write_atomically
from pyg_mmrec.utils.modes import evaluating

#: What a single ONNX file may hold, the limit of its encoding.
ONNX_BYTES = 2**31 - 2**20


class _Products(torch.nn.Module):
    """Inner products of users with all items."""

    def __init__(self, user: Tensor, item: Tensor) -> None:
        super().__init__()
        self.user_emb = torch.nn.Parameter(user.detach().clone(), requires_grad=False)
        self.item_emb = torch.nn.Parameter(item.detach().clone(), requires_grad=False)

    def forward(self, user: Tensor) -> Tensor:
        """``[B, num_items]`` scores."""
        return self.user_emb[user] @ self.item_emb.t()


class _Scores(torch.nn.Module):
    """A model's scores of all items, its representations as constants."""

    def __init__(self, retriever: Retriever) -> None:
        super().__init__()
        self.model: Any = retriever.model
        self.data, self.representations = retriever.data, retriever.representations

    def forward(self, user: Tensor) -> Tensor:
        """``[1, num_items]`` scores."""
        scores: Tensor = self.model.score(self.data, self.representations, user)
        return scores


def export_faiss(retriever: Retriever, folder: str | Path) -> Path:
    """Writes an exact inner-product index of the items, ``items.faiss``, and the users' vectors, ``users.npy``.

    ``faiss.read_index(path).search(users[rows], k)`` gives scores and items; seen items are for the caller to leave
    out. With ids, ``ids.json`` is written too.

    Args:
        retriever: What is exported.
        folder: Where to; made if it is not there.

    Returns:
        The path of the index.

    Raises:
        ImportError: If faiss is not installed.
        ValueError: If the model's scores are no inner products.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError("the export needs faiss; install it with: pip install 'pyg-mmrec[ann]'") from error
    if retriever.vectors is None:
        raise ValueError(
            f"{type(retriever.model).__name__} cannot be exported to faiss, because its scores are no inner products: "
            f"export to 'torch' or 'onnx', or use write_recommendations or the service"
        )
    user, item = (np.ascontiguousarray(x.detach().float().cpu().numpy()) for x in retriever.vectors)
    index = faiss.IndexFlatIP(item.shape[1])
    index.add(item)
    path = _prepared(retriever, folder) / "items.faiss"

    def save_users(to: Path) -> None:
        with to.open("wb") as file:
            np.save(file, user)

    write_atomically(path.with_name("users.npy"), save_users)
    write_atomically(path, lambda to: faiss.write_index(index, str(to)))
    return path


def export_torch(retriever: Retriever, folder: str | Path) -> Path:
    """Writes the scores as a program of ``torch.export``, ``scores.pt2``.

    ``torch.export.load(path).module()(user)`` gives ``[B, num_items]`` scores of all items for ``[B]`` int64 user
    nodes; B is 1 where scores are no inner products. With ids, ``ids.json`` is written too.

    Args:
        retriever: What is exported.
        folder: Where to; made if it is not there.

    Returns:
        The path of the program.

    Raises:
        ValueError: If the model's scores cannot be exported, because what is computed depends on the user.
    """
    program = _program(retriever, "torch")
    path = _prepared(retriever, folder) / "scores.pt2"

    def save(to: Path) -> None:
        with to.open("wb") as file:
            torch.export.save(program, file)

    write_atomically(path, save)
    return path


def export_onnx(retriever: Retriever, folder: str | Path) -> Path:
    """Writes the scores as an ONNX model, ``scores.onnx``.

    Its input ``user`` holds ``[B]`` int64 user nodes, its output ``scores`` ``[B, num_items]`` scores of all items; B
    is 1 where scores are no inner products. With ids, ``ids.json`` is written too.

    Args:
        retriever: What is exported.
        folder: Where to; made if it is not there.

    Returns:
        The path of the model.

    Raises:
        ImportError: If onnx or onnxscript is not installed.
        ValueError: If the model's scores cannot be exported, or are too large for one file.
    """
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise ImportError(f"the export needs {package}; install it with: pip install 'pyg-mmrec[onnx]'")
    program = _program(retriever, "onnx")
    size = sum(value.nbytes for value in [*program.state_dict.values(), *program.constants.values()])
    if size > ONNX_BYTES:
        raise ValueError(f"an ONNX file holds at most 2 GiB (the scores take {size:,} bytes): export to 'torch'")
    with _quiet(), _refusal(retriever, "onnx"):
        onnx: Any = torch.onnx.export(
            program, input_names=["user"], output_names=["scores"], dynamo=True, verbose=False
        )
    path = _prepared(retriever, folder) / "scores.onnx"
    write_atomically(path, lambda to: onnx.save(str(to), external_data=False))
    return path


def _prepared(retriever: Retriever, folder: str | Path) -> Path:
    """The folder, with the ids where there are any."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if retriever.ids is not None:
        retriever.ids.save(folder)
    return folder


@torch.no_grad()
def _program(retriever: Retriever, target: str) -> torch.export.ExportedProgram:
    """The scores as a graph of operations."""
    if retriever.vectors is not None:
        user, item = retriever.vectors
        module, batch, shapes = _Products(user, item), 2, {"user": {0: torch.export.Dim("batch")}}
        return torch.export.export(module, (torch.arange(batch) % user.size(0),), dynamic_shapes=shapes)
    with evaluating(retriever.model), _quiet(), _refusal(retriever, target):
        return torch.export.export(_Scores(retriever), (torch.zeros(1, dtype=torch.long),))


@contextmanager
def _refusal(retriever: Retriever, target: str) -> Iterator[None]:
    """One error for whatever an exporter raises."""
    try:
        yield
    except Exception as error:  # exporters have many types of their own
        raise ValueError(
            f"the scores of {type(retriever.model).__name__} cannot be exported to '{target}', because what is "
            f"computed depends on the user ({type(error).__name__}): use write_recommendations or the service"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' words about themselves."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)

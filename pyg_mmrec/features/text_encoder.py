"""Features of texts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pyg_mmrec.features.encoder import Encoder
from pyg_mmrec.features.libraries import import_library


class TextEncoder(Encoder):
    r"""Encodes the texts of items by a model of `sentence-transformers <https://sbert.net>`_, ``data['item'].x_text``.

    Items without a text are missing, in ``mask_text``, and counted in a warning. What was encoded is kept on disk, by
    the hash of the text and of the model, so that it is encoded once, and a run that is killed goes on where it was.
    ``data['item'].provenance['text']`` says which model it was. For a table in one step see the argument
    ``text_encoder`` of :func:`~pyg_mmrec.datasets.from_tables`.

    Args:
        model: A folder that holds a model, which is read without a network, or a name, whose model
            sentence-transformers downloads.
        modality: Name of the modality that is written (default: ``'text'``).
        prompt: What is put before each text, such as ``'passage: '`` where a model was trained so (default: nothing
            beside the model's own default).
        batch_size: Texts that are encoded at a time (default: 32).
        device: Device of the model (default: CUDA where it is available, else the CPU).
        cache_dir: Folder of what was encoded (default: ``~/.cache/pyg_mmrec/features``).

    Raises:
        FileNotFoundError: If ``model`` is the path of a folder that is not there.
        ValueError: If an argument is of another form, or the folder holds no model; when applied, if the model
            cannot be loaded, or the items have no texts.
        ImportError: If sentence-transformers is not installed.

    Example:
        >>> from pyg_mmrec.features import TextEncoder
        >>> encoder = TextEncoder('sentence-transformers/all-MiniLM-L6-v2')  # doctest: +SKIP
        >>> data = encoder(data)  # doctest: +SKIP
        >>> data['item'].x_text.shape  # doctest: +SKIP
        torch.Size([7050, 384])
    """

    library = "sentence-transformers"
    reads = "text"
    content = "text"
    model_files = ("modules.json", "config.json")

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        modality: str = "text",
        prompt: str = "",
        batch_size: int = 32,
        device: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if not isinstance(prompt, str):
            raise ValueError(f"'prompt' must be a text (got {prompt!r})")
        self.prompt = prompt
        super().__init__(model, modality, batch_size, device, cache_dir)

    def options(self) -> dict[str, Any]:
        """The prompt, where there is one."""
        return {"prompt": self.prompt} if self.prompt else {}

    def _load(self) -> Any:
        library = import_library("sentence_transformers")
        from transformers.utils import logging

        local, shows_bars = self.folder is not None, logging.is_progress_bar_enabled()
        if local:
            logging.disable_progress_bar()
        try:
            model = library.SentenceTransformer(
                str(self.folder or self.model), device=str(self.device), local_files_only=local, trust_remote_code=False
            )
        except Exception as error:  # a dozen types, of three libraries
            raise self._cannot_load(error) from error
        finally:
            if shows_bars:
                logging.enable_progress_bar()
        return model.eval()

    def _key(self, content: str) -> bytes | None:
        text = content.strip()
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() if text else None

    def _embed(self, contents: Sequence[str]) -> tuple[Tensor | None, list[bool]]:
        texts = [content.strip() for content in contents]
        x = self.network().encode(
            texts, batch_size=self.batch_size, prompt=self.prompt or None, show_progress_bar=False
        )
        return torch.from_numpy(x).float(), [True] * len(texts)

    def _hint(self, contents: Sequence[str]) -> str:
        return "all are empty"

    def _cost(self, content: str) -> int:
        return -len(content)  # texts of a batch are padded to the longest

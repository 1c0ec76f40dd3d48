"""What encoders of texts and of images have in common."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import time
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform
from tqdm import tqdm

from pyg_mmrec.features._models import find_device, folder_hash, model_folder, weights_hash
from pyg_mmrec.features._store import VectorStore
from pyg_mmrec.typing import ITEM, feature_key, mask_key
from pyg_mmrec.utils import num_users_items
from pyg_mmrec.utils.checks import check_int, check_path
from pyg_mmrec.utils.files import one_line

#: Seconds of work that a kill costs at most, beside the batch under way.
_KEEP_EVERY = 10.0


class Encoder(BaseTransform):
    """Writes features of items that a trained model computes, and keeps them by the hash of their content.

    Args:
        model: A folder that holds a model, or a name that the library knows.
        modality: Name of the modality that is written.
        batch_size: Items that are encoded at a time.
        device: Device of the model; None for CUDA where it is available, else the CPU.
        cache_dir: Folder of what was encoded; None for ``~/.cache/pyg_mmrec/features``.
    """

    library: ClassVar[str]  #: the distribution that encodes
    reads: ClassVar[str]  #: attribute of the items that is encoded
    content: ClassVar[str]  #: what an item has one of, for messages
    model_files: ClassVar[tuple[str, ...]]  #: one of them lies in the folder of a model

    def __init__(
        self,
        model: str | os.PathLike[str],
        modality: str,
        batch_size: int,
        device: str | None,
        cache_dir: str | os.PathLike[str] | None,
    ) -> None:
        check_path(model=model)
        if not isinstance(modality, str) or not re.fullmatch(r"[^.\s]+", modality):
            raise ValueError(f"'modality' must be a word without a dot (got {modality!r})")
        check_int(1, batch_size=batch_size)
        if cache_dir is not None:
            check_path(cache_dir=cache_dir)
        self.device = find_device(device)
        self.model, self.modality, self.batch_size = os.fspath(model), modality, batch_size
        self.cache_dir = Path.home() / ".cache/pyg_mmrec/features" if cache_dir is None else Path(cache_dir)
        self.folder = model_folder(self.model, self.model_files)
        try:
            self.version = importlib.metadata.version(self.library)
        except importlib.metadata.PackageNotFoundError:
            raise ImportError(
                f"features of {self.content}s need {self.library}; install it with: pip install 'pyg-mmrec[features]'"
            ) from None
        self._network: Any = None
        self._sha256 = "" if self.folder is None else folder_hash(self.folder)

    def options(self) -> dict[str, Any]:
        """What decides the features beside the model and the library."""
        return {}

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the features come from, as JSON can hold it.

        ``library`` and ``version``, ``model`` as it was given, ``sha256`` of the files in its folder, or, where it is
        known by name, of its weights, and the options of the encoder.
        """
        if not self._sha256:
            self._sha256 = weights_hash(self.network())
        known = {"library": self.library, "version": self.version, "model": self.model, "sha256": self._sha256}
        return known | self.options()

    def network(self) -> Any:
        """The model, loaded when it is first needed.

        Raises:
            ValueError: If it cannot be loaded.
        """
        if self._network is None:
            self._network = self._load()
        return self._network

    def encode(self, contents: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Encodes contents, each different one once in its life.

        What was encoded before, by the same version of the library and the same model, is read from ``cache_dir``. A
        run that is stopped or killed goes on from there.

        Args:
            contents: Texts, or paths of images; an empty one for none.

        Returns:
            ``[num_contents, channels]`` float32 features, zeros where there is none; ``[num_contents]`` bool, which
            have some.

        Raises:
            ValueError: If none can be encoded, the model cannot be loaded, or what it gives is no vector of finite
                numbers.
        """
        if isinstance(contents, str) or not all(isinstance(content, str) for content in contents):
            raise ValueError(f"'contents' must be a list of texts (got {one_line(repr(contents))})")
        keys = [self._key(content) for content in contents]
        first = {key: content for key, content in zip(reversed(keys), reversed(contents), strict=True) if key}
        known = list(first)
        store = VectorStore(self._store_folder())
        vectors, has = store.read(known)
        if not has.all():
            rows = sorted((~has).nonzero().flatten().tolist(), key=lambda row: self._cost(first[known[row]]))
            vectors = self._encode_rows(rows, known, first, vectors, has, store)
        if vectors is None or not has.any():
            raise ValueError(f"none of {len(contents)} {self.content}s can be encoded; {self._hint(contents)}")
        row_of = {key: row for row, key in enumerate(known)}
        index = torch.tensor([-1 if key is None else row_of[key] for key in keys])
        mask = (index >= 0) & has[index]
        return vectors[index].masked_fill(~mask.unsqueeze(1), 0), mask

    def _encode_rows(
        self,
        rows: Sequence[int],
        keys: Sequence[bytes],
        contents: Mapping[bytes, str],
        vectors: Tensor | None,
        has: Tensor,
        store: VectorStore,
    ) -> Tensor | None:
        """Fills in the vectors of some keys in batches, and ``has``; every few seconds they are kept."""
        waiting: list[int] = []
        kept = time.monotonic()

        def keep() -> None:
            if vectors is not None:
                store.add([keys[row] for row in waiting], vectors[waiting])
            waiting.clear()

        try:
            with tqdm(total=len(rows), unit=self.content, disable=None) as bar:
                for start in range(0, len(rows), self.batch_size):
                    batch = rows[start : start + self.batch_size]
                    x, good = self._embed([contents[keys[row]] for row in batch])
                    if x is not None:
                        self._check(x)
                        vectors = torch.zeros(len(keys), x.size(1)) if vectors is None else vectors
                        done = [row for row, is_good in zip(batch, good, strict=True) if is_good]
                        vectors[done] = x
                        has[done] = True
                        waiting += done
                    if time.monotonic() - kept >= _KEEP_EVERY:
                        keep()
                        kept = time.monotonic()
                    bar.update(len(batch))
        finally:
            keep()
        return vectors

    def _check(self, x: Tensor) -> None:
        """Refuses what is no finite vector for each content."""
        if x.dim() != 2:
            raise ValueError(
                f"'model' {self.model!r} gives features of the shape {list(x.shape[1:])}; choose one that pools them "
                "into a vector"
            )
        if not x.isfinite().all():
            raise ValueError(f"'model' {self.model!r} gives values that are not finite; choose another model or device")

    def add_to(self, data: HeteroData, source: str) -> list[str]:
        """Writes the features into the graph; gives notes about what is missing.

        Args:
            data: The graph; its items have what is encoded.
            source: Where that comes from, for the notes.
        """
        store, size = data[ITEM], num_users_items(data)[1]
        contents = store.get(self.reads)
        if not isinstance(contents, list) or len(contents) != size:
            raise ValueError(
                f"data['{ITEM}'].{self.reads} must be a list of {size} {self.content}s, '' for none "
                f"(got {one_line(repr(contents), 60)})"
            )
        store[feature_key(self.modality)], mask = self.encode(contents)
        store.pop(mask_key(self.modality), None)
        if not mask.all():
            store[mask_key(self.modality)] = mask
        store.provenance = {**store.get("provenance", {}), self.modality: self.provenance}
        missing = int((~mask).sum())
        broken = sum(bool(content.strip()) for content, has in zip(contents, mask.tolist(), strict=True) if not has)
        reason = f", {broken} of them with a file that is missing or broken" if broken else ""
        return [f"{source}: {missing} items have no {self.content}{reason}, and are marked as missing"] * bool(missing)

    def forward(self, data: HeteroData) -> HeteroData:
        """Writes the features and, where items lack them, their mask."""
        for note in self.add_to(data, f"data['{ITEM}'].{self.reads}"):
            warnings.warn(note, stacklevel=3)
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, modality={self.modality!r})"

    def _store_folder(self) -> Path:
        """The folder of what this model gives; its path is no part of its identity."""
        known = {name: value for name, value in self.provenance.items() if name != "model"}
        digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
        return self.cache_dir.expanduser() / f"{self.library}-{digest[:16]}"

    @abstractmethod
    def _load(self) -> Any:
        """The model on its device, in inference mode."""

    @abstractmethod
    def _key(self, content: str) -> bytes | None:
        """The hash of what is encoded, None where there is nothing."""

    @abstractmethod
    def _embed(self, contents: Sequence[str]) -> tuple[Tensor | None, list[bool]]:
        """Float32 features on the CPU of those contents that can be read, None if none can; which these are."""

    @abstractmethod
    def _hint(self, contents: Sequence[str]) -> str:
        """What to do where no content can be encoded."""

    def _cost(self, content: str) -> int:
        """Contents are encoded in the order of their costs."""
        return 0

    def _cannot_load(self, error: Exception) -> ValueError:
        """The error about a model that its library does not load."""
        where = "" if self.folder is not None else "is no folder, and "
        reason = one_line(str(error)) or type(error).__name__
        return ValueError(f"'model' {self.model!r} {where}cannot be loaded by {self.library} ({reason})")

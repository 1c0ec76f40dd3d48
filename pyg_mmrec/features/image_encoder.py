"""Features of images."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyg_mmrec.features.encoder import Encoder
from pyg_mmrec.features.libraries import import_library
from pyg_mmrec.utils.hashing import file_digest


class _Network(NamedTuple):
    model: torch.nn.Module
    transform: Any  #: from a pillow image to what the model takes

    def state_dict(self) -> dict[str, Any]:
        return self.model.state_dict()


class ImageEncoder(Encoder):
    r"""Encodes the images of items by a model of `timm <https://huggingface.co/docs/timm>`_, ``data['item'].x_image``.

    The files are those in ``data['item'].image_path``; they are scaled, cropped and normalised as the model's
    configuration says. The features are what the model gives before its classifier. Items without an image, and those
    whose file is not there or is broken, are missing, in ``mask_image``, and counted in a warning. What was encoded is
    kept on disk, by the hash of the file's bytes and of the model, so that it is encoded once, and a run that is killed
    goes on where it was. ``data['item'].provenance['image']`` says which model it was. For a table in one step see the
    argument ``image_encoder`` of :func:`~pyg_mmrec.datasets.from_tables`.

    Args:
        model: A folder that holds a model, ``config.json`` and its weights as timm saves them for model hubs, which is
            read without a network, or a name that timm knows, such as ``'resnet50.a1_in1k'`` or
            ``'hf-hub:owner/model'``, whose weights it downloads.
        modality: Name of the modality that is written (default: ``'image'``).
        batch_size: Images that are encoded at a time (default: 32).
        device: Device of the model (default: CUDA where it is available, else the CPU).
        cache_dir: Folder of what was encoded (default: ``~/.cache/pyg_mmrec/features``).

    Raises:
        FileNotFoundError: If ``model`` is the path of a folder that is not there.
        ValueError: If an argument is of another form, or the folder holds no model; when applied, if the model
            cannot be loaded, or no image can be read.
        ImportError: If timm is not installed.

    Example:
        >>> from pyg_mmrec.features import ImageEncoder
        >>> encoder = ImageEncoder('vit_small_patch16_224.augreg_in21k_ft_in1k')  # doctest: +SKIP
        >>> data = encoder(data)  # doctest: +SKIP
        >>> data['item'].x_image.shape  # doctest: +SKIP
        torch.Size([7050, 384])
    """

    library = "timm"
    reads = "image_path"
    content = "image"
    model_files = ("config.json",)

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        modality: str = "image",
        batch_size: int = 32,
        device: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(model, modality, batch_size, device, cache_dir)

    def _load(self) -> _Network:
        timm = import_library("timm")
        name = self.model if self.folder is None else f"local-dir:{self.folder}"
        try:
            model = timm.create_model(name, pretrained=True, num_classes=0)
            transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
        except Exception as error:  # a dozen types, of three libraries
            raise self._cannot_load(error) from error
        return _Network(model.eval().to(self.device), transform)

    def _key(self, content: str) -> bytes | None:
        if not content.strip():
            return None
        try:
            return bytes.fromhex(file_digest(Path(content)))
        except ValueError:
            return None

    def _embed(self, contents: Sequence[str]) -> tuple[Tensor | None, list[bool]]:
        network = self.network()
        with ThreadPoolExecutor(min(8, len(contents))) as pool:
            pixels = list(pool.map(lambda path: _read(path, network.transform), contents))
        good = [image for image in pixels if image is not None]
        if not good:
            return None, [False] * len(pixels)
        with torch.inference_mode():
            x = network.model(torch.stack(good).to(self.device)).float().cpu()
        return x.clone(), [image is not None for image in pixels]

    def _hint(self, contents: Sequence[str]) -> str:
        path = next((content for content in contents if content.strip()), None)
        return "there is no path" if path is None else f"check the paths, such as {path!r}"


def _read(path: str, transform: Any) -> Tensor | None:
    """What the model takes of a file; None where it is no image."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(Path(path).read_bytes())) as file:
            image = file.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what pillow makes of foreign bytes
        return None
    pixels: Tensor = transform(image)
    return pixels

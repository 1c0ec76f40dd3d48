"""Encoders among the arguments of tables."""

from __future__ import annotations

import os
from typing import TypeAlias, TypeVar

from torch_geometric.data import HeteroData

from pyg_mmrec.datasets._nodes import NodeColumns
from pyg_mmrec.datasets._tables import Source
from pyg_mmrec.features import ImageEncoder, TextEncoder
from pyg_mmrec.features.encoder import Encoder
from pyg_mmrec.typing import feature_key
from pyg_mmrec.utils.checks import check_path

AnyEncoder = TypeVar("AnyEncoder", bound=Encoder)

#: An encoder, or the folder or name of its model.
TextModel: TypeAlias = "str | os.PathLike[str] | TextEncoder"
ImageModel: TypeAlias = "str | os.PathLike[str] | ImageEncoder"

#: The arguments that encoders are given by, and what of a table they read.
_ARGUMENTS = {"text": ("text_encoder", "texts"), "image_path": ("image_encoder", "paths of images")}


def make_encoders(text_encoder: TextModel | None, image_encoder: ImageModel | None) -> tuple[Encoder, ...]:
    """The encoders that arguments ask for.

    Raises:
        ValueError: If an argument is neither an encoder nor a folder or name, or both write one modality.
    """
    given = (
        _encoder(TextEncoder, text_encoder=text_encoder),
        _encoder(ImageEncoder, image_encoder=image_encoder),
    )
    encoders = tuple(encoder for encoder in given if encoder is not None)
    if len({encoder.modality for encoder in encoders}) < len(encoders):
        raise ValueError(f"'text_encoder' and 'image_encoder' both write the modality {encoders[0].modality!r}")
    return encoders


def _encoder(kind: type[AnyEncoder], **argument: object) -> AnyEncoder | None:
    (name, value), *_ = argument.items()
    if value is None or isinstance(value, kind):
        return value
    if not isinstance(value, str | os.PathLike):
        raise ValueError(f"'{name}' must be the folder or name of a model, or a {kind.__name__} (got {value!r})")
    check_path(**{name: value})
    return kind(value)  # type: ignore[call-arg]  # those of the sub-classes have defaults


def argument_of(encoder: Encoder) -> str:
    """The name of the argument that gives an encoder."""
    return _ARGUMENTS[encoder.reads][0]


def check_encoders(encoders: tuple[Encoder, ...], source: Source, columns: NodeColumns) -> None:
    """Refuses encoders that a table of items has nothing for, or whose features it has.

    Raises:
        ValueError: About the first.
    """
    for encoder in encoders:
        argument, content = _ARGUMENTS[encoder.reads]
        if not (columns.texts if encoder.reads == "text" else columns.image):
            role = "'text': [...]" if encoder.reads == "text" else "'image': ..."
            raise ValueError(f"'{argument}' needs {content} but {source.name} has none; name columns={{{role}}}")
        if encoder.modality in {*columns.columns, *columns.arrays}:
            raise ValueError(
                f"'{argument}' writes {feature_key(encoder.modality)}, which {source.name} or 'features' gives too; "
                f"name another: {type(encoder).__name__}(..., modality=...)"
            )


def add_encoded(data: HeteroData, encoders: tuple[Encoder, ...], source: str) -> list[str]:
    """Writes the features of all encoders; gives notes about what is missing."""
    return [note for encoder in encoders for note in encoder.add_to(data, source)]

"""What decides the graph of tables besides the tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyg_mmrec.datasets._encoders import argument_of
from pyg_mmrec.datasets._files import did_you_mean
from pyg_mmrec.datasets._nodes import Features
from pyg_mmrec.features.encoder import Encoder
from pyg_mmrec.utils.checks import check_int, check_names, check_number, check_path
from pyg_mmrec.utils.texts import WordOptions

_WORDS: dict[str, Any] = {"max_length": 200, "min_count": 5, "max_words": None, "stop_words": None, "vectors": None}


@dataclass(frozen=True)
class TableOptions:
    """The arguments of :func:`from_tables` that decide the graph besides the tables."""

    columns: Mapping[str, Any]
    features: Mapping[str, Features] | None
    attributes: Sequence[str] | None
    image_size: int | None
    image_root: str | os.PathLike[str] | None
    words: Mapping[str, Any] | None
    min_rating: float | None
    min_interactions: int
    encoders: tuple[Encoder, ...]

    def check(self, has_items: bool) -> None:
        """Refuses what is out of range, or needs a table of items where there is none."""
        if self.features is not None and not isinstance(self.features, Mapping):
            raise ValueError(f"'features' must be a dictionary such as {{'image': 'img_'}} (got {self.features!r})")
        if self.attributes is not None:
            check_names(attributes=self.attributes)
        if self.image_size is not None:
            check_int(1, image_size=self.image_size)
        if self.image_root is not None:
            check_path(image_root=self.image_root)
        if self.min_rating is not None:
            check_number(min_rating=self.min_rating)
        check_int(0, min_interactions=self.min_interactions)
        self.word_options()
        read = [name for name in ("features", "attributes", "image_size", "words") if getattr(self, name) is not None]
        read += [argument_of(encoder) for encoder in self.encoders]
        if read and not has_items:
            raise ValueError(f"'{read[0]}' reads columns of items: pass their table as 'items'")

    def word_options(self) -> WordOptions | None:
        """The arguments of the tokens; None for none."""
        if self.words is None:
            return None
        if not isinstance(self.words, Mapping):
            raise ValueError(f"'words' must be a dictionary such as {{'min_count': 2}} (got {self.words!r})")
        for name in self.words:
            if name not in _WORDS:
                hint = did_you_mean(str(name), _WORDS)
                raise ValueError(f"'words' has the unknown key {name!r}; the keys are {', '.join(_WORDS)}{hint}")
        return WordOptions(**(_WORDS | dict(self.words)))

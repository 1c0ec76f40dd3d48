"""What a saved model says about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pyg_mmrec.models._saved import describe
from pyg_mmrec.utils.checks import check_by_name, check_number
from pyg_mmrec.utils.files import unreadable, write_json, write_text

CARD, README = "card.json", "README.md"


@dataclass(frozen=True)
class ModelCard:
    """What a saved model was trained on, how well it does and what it may be used for.

    It is written beside the weights, as ``card.json`` and, to be read by people, ``README.md``.

    Args:
        data: Facts about the data by name, such as its name and sizes (default: none).
        metrics: Metrics by name (default: none).
        protocol: How the metrics were measured, such as ``'mmrec'`` (default: not said).
        licence: Name of the licence of the weights, such as ``'mit'`` (default: not said).

    Raises:
        ValueError: If an argument is of another type, or a metric is no number.

    Example:
        >>> import tempfile
        >>> from pyg_mmrec.models import BPRMF
        >>> card = ModelCard(data={'name': 'shop'}, metrics={'test_recall@20': 0.31}, licence='mit')
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     BPRMF(2, 3).save_pretrained(folder, card)
        ...     ModelCard.load(folder).metrics
        {'test_recall@20': 0.31}
    """

    data: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    protocol: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        check_by_name(lambda **_: None, data=self.data)
        check_by_name(check_number, metrics=self.metrics)
        for name in ("protocol", "licence"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"'{name}' must be a text (got {getattr(self, name)!r})")

    def save(self, folder: str | Path) -> None:
        """Writes both files into the folder of a saved model, each whole or not at all.

        Raises:
            FileNotFoundError: If the folder holds no saved model.
            ValueError: If its ``config.json`` is damaged.
        """
        folder = Path(folder)
        model, sizes = describe(folder)
        write_json(folder / CARD, {"model": model, **asdict(self)})
        write_text(folder / README, self._page(model, sizes))

    @classmethod
    def load(cls, folder: str | Path) -> ModelCard:
        """Reads what :meth:`save` wrote.

        Raises:
            FileNotFoundError: If there is no card.
            ValueError: If it is damaged.
        """
        path = Path(folder, CARD)
        if not path.is_file():
            raise FileNotFoundError(f"'{folder}' has no {CARD}: save the model with 'save_pretrained'")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{name: content[name] for name in cls.__dataclass_fields__})
        except OSError as error:
            raise unreadable(path, error) from None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"'{path}' is no model card ({error}): write it anew with ModelCard.save") from None

    def _page(self, model: str, sizes: Mapping[str, Any]) -> str:
        """The card in Markdown, headed by what model hubs read."""
        licence = [f"license: {json.dumps(self.licence)}"] if self.licence else []
        head = ["---", "library_name: pyg_mmrec", "tags: [recommendation]", *licence, "---", ""]
        lines = [*head, f"# {model}", ""]
        lines += ["```python", "from pyg_mmrec.models import Recommender", ""]
        lines += ['model = Recommender.from_pretrained("path/to/this/folder")', "```", ""]
        lines += _section("Model", sizes) + _section("Data", self.data)
        lines += _section("Metrics", {name: f"{value:.4f}" for name, value in self.metrics.items()})
        lines += ["## Protocol", "", self.protocol or "Not stated.", ""]
        lines += ["## Licence", "", self.licence or "Not stated.", ""]
        return "\n".join(lines)


def _section(title: str, facts: Mapping[str, Any]) -> list[str]:
    """A table of facts, where there are any."""
    rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in facts.items()]
    table = ["| | |", "|---|---|", *rows] if rows else ["Not stated."]
    return [f"## {title}", "", *table, ""]


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return " ".join(text.split()).replace("|", "\\|")

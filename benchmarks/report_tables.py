"""Tables of the pages that report.py writes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

RESULTS = Path(__file__).parent / "results"


def markdown(rows: list[list[str]], header: list[str]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def with_facts(text: str, table: pd.DataFrame) -> str:
    """The text, with what the first row says of its run."""
    return text.format(**table.iloc[0].to_dict())

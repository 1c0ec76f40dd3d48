"""Comparisons."""

from pyg_mmrec.benchmark.ledger import Ledger
from pyg_mmrec.benchmark.prepare import default_split, prepare, with_user_graphs
from pyg_mmrec.benchmark.runner import Candidate, compare, format_table, split_hash, summarize, train_one

__all__ = [
    "Candidate",
    "Ledger",
    "compare",
    "default_split",
    "format_table",
    "prepare",
    "split_hash",
    "summarize",
    "train_one",
    "with_user_graphs",
]

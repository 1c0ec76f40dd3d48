"""Comparisons."""

from pyg_mmrec.benchmark.html_report import write_report
from pyg_mmrec.benchmark.ledger import Ledger
from pyg_mmrec.benchmark.prepare import default_split, prepare, with_user_graphs
from pyg_mmrec.benchmark.runner import Candidate, compare, format_table, split_hash, summarize, train_one
from pyg_mmrec.benchmark.significance import format_tests, holm, paired_tests
from pyg_mmrec.benchmark.trec import write_qrels, write_run

__all__ = [
    "Candidate",
    "Ledger",
    "compare",
    "default_split",
    "format_table",
    "format_tests",
    "holm",
    "paired_tests",
    "prepare",
    "split_hash",
    "summarize",
    "train_one",
    "with_user_graphs",
    "write_qrels",
    "write_report",
    "write_run",
]

"""Comparisons."""

from pyg_mmrec.benchmark.html_report import write_report
from pyg_mmrec.benchmark.ledger import Ledger
from pyg_mmrec.benchmark.prepare import default_split, prepare, with_user_graphs
from pyg_mmrec.benchmark.runner import Candidate, compare, format_table, split_hash, summarize, train_one
from pyg_mmrec.benchmark.search import Range, num_points, search_points
from pyg_mmrec.benchmark.significance import format_tests, holm, paired_tests
from pyg_mmrec.benchmark.suite import Suite, SuiteDataset, SuiteFacts, SuiteMethod
from pyg_mmrec.benchmark.sweep import SuiteResult, run_suite
from pyg_mmrec.benchmark.trec import write_qrels, write_run

__all__ = [
    "Candidate",
    "Ledger",
    "Range",
    "Suite",
    "SuiteDataset",
    "SuiteFacts",
    "SuiteMethod",
    "SuiteResult",
    "compare",
    "default_split",
    "format_table",
    "format_tests",
    "holm",
    "num_points",
    "paired_tests",
    "prepare",
    "run_suite",
    "search_points",
    "split_hash",
    "summarize",
    "train_one",
    "with_user_graphs",
    "write_qrels",
    "write_report",
    "write_run",
]

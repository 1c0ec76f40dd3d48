"""Ranking metrics by name, and how well intents are recovered."""

from pyg_mmrec.metrics.intents import intent_recovery
from pyg_mmrec.metrics.ranking import parse_metric, ranking_metrics

__all__ = ["intent_recovery", "parse_metric", "ranking_metrics"]

"""Ranking metrics by name."""

from pyg_mmrec.metrics.ranking import parse_metric, ranking_metrics

__all__ = ["parse_metric", "ranking_metrics"]

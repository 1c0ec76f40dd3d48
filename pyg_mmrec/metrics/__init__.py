"""Ranking metrics by name, AUC within groups, how well intents are recovered and factors kept apart."""

from pyg_mmrec.metrics.disentanglement import dci, mutual_information_gap
from pyg_mmrec.metrics.group_auc import group_auc
from pyg_mmrec.metrics.intents import intent_recovery
from pyg_mmrec.metrics.ranking import parse_metric, ranking_metrics

__all__ = ["dci", "group_auc", "intent_recovery", "mutual_information_gap", "parse_metric", "ranking_metrics"]

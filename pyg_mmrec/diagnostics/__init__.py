"""What a model has learned."""

from pyg_mmrec.diagnostics.attributes import (
    AttributeReport,
    aspect_words,
    attribute_report,
    save_grid,
    traverse,
)
from pyg_mmrec.diagnostics.dual import DualReport, cosine_distance, dual_report, gradient_cosine
from pyg_mmrec.diagnostics.intents import IntentReport, intent_report
from pyg_mmrec.diagnostics.oracle import PlantedOracle
from pyg_mmrec.diagnostics.probes import cosine_alignment, information_bounds, linear_probe
from pyg_mmrec.diagnostics.separation import SeparationReport, separation_report

__all__ = [
    "AttributeReport",
    "DualReport",
    "IntentReport",
    "PlantedOracle",
    "SeparationReport",
    "aspect_words",
    "attribute_report",
    "cosine_alignment",
    "cosine_distance",
    "dual_report",
    "gradient_cosine",
    "information_bounds",
    "intent_report",
    "linear_probe",
    "save_grid",
    "separation_report",
    "traverse",
]

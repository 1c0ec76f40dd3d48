"""What a model has learned."""

from pyg_mmrec.diagnostics.oracle import PlantedOracle
from pyg_mmrec.diagnostics.probes import cosine_alignment, information_bounds, linear_probe
from pyg_mmrec.diagnostics.separation import SeparationReport, separation_report

__all__ = [
    "PlantedOracle",
    "SeparationReport",
    "cosine_alignment",
    "information_bounds",
    "linear_probe",
    "separation_report",
]

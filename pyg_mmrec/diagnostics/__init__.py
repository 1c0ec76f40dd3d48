"""What a model has learned."""

from pyg_mmrec.diagnostics.oracle import PlantedOracle

__all__ = ["PlantedOracle"]

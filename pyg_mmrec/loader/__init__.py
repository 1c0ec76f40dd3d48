"""Training batches."""

from pyg_mmrec.loader.triplet_loader import TripletLoader

__all__ = ["TripletLoader"]

"""Training batches."""

from pyg_mmrec.loader.history_loader import HistoryLoader
from pyg_mmrec.loader.subgraph_sampler import SubgraphSampler
from pyg_mmrec.loader.triplet_loader import TripletLoader

__all__ = ["HistoryLoader", "SubgraphSampler", "TripletLoader"]

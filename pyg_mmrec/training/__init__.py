"""Training on Lightning Fabric."""

from pyg_mmrec.training.lazy_adam import LazyAdam
from pyg_mmrec.training.run import TrainResult
from pyg_mmrec.training.run_folder import RunFolder
from pyg_mmrec.training.trainer import Trainer

__all__ = ["LazyAdam", "RunFolder", "TrainResult", "Trainer"]

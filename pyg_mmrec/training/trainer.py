"""The trainer: the settings of trainings, and the way to start one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch_geometric.data import HeteroData

from pyg_mmrec.evaluation import BaseEvaluator, Evaluator
from pyg_mmrec.training.lazy_adam import sparse_gradients
from pyg_mmrec.training.run import TrainResult, TrainRun
from pyg_mmrec.training.run_folder import RunFolder
from pyg_mmrec.utils import keep_freed_memory
from pyg_mmrec.utils.checks import (
    check_batch_size,
    check_flag,
    check_function,
    check_int,
    check_neighbors,
    check_path,
    check_positive,
)


class Trainer:
    """Trains a model, selects its best epoch on validation and, once, tests that.

    The defaults are the published protocol of the field: Adam, batches of 2048 with one negative each, early
    stopping on Recall@20. Everything random follows from ``seed``: a step's batch, negatives and dropout from
    ``(seed, epoch, step)``, so that a run that was killed and resumed ends, on CPU, with the very weights of one that
    was not. The weights a model starts from are drawn when it is built, from torch's global generator.

    Args:
        max_epochs: At most so many epochs (default: 1000).
        patience: Stop at the first epoch that makes more than so many in a row without a strictly better validation
            value (default: 20).
        evaluate_every: Validate after every so many epochs, and after the last (default: 1).
        monitor: The validation metric that selects (default: ``'recall@20'``).
        batch_size: Interactions in a batch, or users where a model is trained on histories, over all processes
            (default: 2048); ``'auto'`` for batches that grow with the data, a 256th of it but at least 2048.
        neighbors: Train on subgraphs of so many sampled neighbours, for each layer over the interactions or one number
            for all, -1 for all neighbours (see :class:`~pyg_mmrec.loader.SubgraphSampler`); by default on the whole
            graph. The optimiser is then :class:`~pyg_mmrec.training.LazyAdam` on sparse gradients, unless
            ``optimizer`` is given.
        drop_targets: Whether no message passes over a batch's own interactions; only beside ``neighbors``.
        learning_rate: Of Adam (default: 1e-3).
        seed: Of batches, negatives, per-epoch graphs and dropout.
        evaluator: Its metrics must include ``monitor``; by default an :class:`~pyg_mmrec.evaluation.Evaluator`. A
            :class:`~pyg_mmrec.evaluation.SampledEvaluator` needs another ``monitor``, such as ``'gauc'``.
        optimizer: Makes the optimiser from the parameters, instead of Adam.
        scheduler: Makes a learning-rate scheduler from the optimiser; stepped after each epoch.
        run_dir: Where logs, checkpoints and the result go (see :class:`~pyg_mmrec.training.RunFolder`); nothing is
            written without it.
        checkpoint_minutes: Write a checkpoint after so many minutes (default: 5), also within an epoch.
        checkpoint_epochs: Write one after every so many epochs as well.
        accelerator: Of Lightning Fabric, ``'auto'``, ``'cpu'``, ``'cuda'``, ...
        devices: Number of processes or devices.
        strategy: Of Lightning Fabric, ``'auto'``, ``'ddp'``, ...; on several devices these two let a step leave
            parameters out, which an auxiliary step does.
        num_nodes: Number of machines.
        precision: Of Lightning Fabric, ``'32-true'``, ``'bf16-mixed'``, ...
        progress: Show a progress bar on a terminal.

    Raises:
        ValueError: If an argument is out of range or ``monitor`` is not among the evaluator's metrics.
    """

    def __init__(
        self,
        *,
        max_epochs: int = 1000,
        patience: int = 20,
        evaluate_every: int = 1,
        monitor: str = "recall@20",
        batch_size: int | Literal["auto"] = 2048,
        neighbors: int | list[int] | None = None,
        drop_targets: bool = False,
        learning_rate: float = 1e-3,
        seed: int = 0,
        evaluator: BaseEvaluator | None = None,
        optimizer: Callable[[Iterable[torch.nn.Parameter]], Optimizer] | None = None,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        run_dir: str | Path | None = None,
        checkpoint_minutes: float = 5.0,
        checkpoint_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int = 1,
        strategy: str = "auto",
        num_nodes: int = 1,
        precision: str = "32-true",
        progress: bool = True,
    ) -> None:
        check_int(1, max_epochs=max_epochs, evaluate_every=evaluate_every)
        check_batch_size(batch_size)
        check_int(1, devices=devices, num_nodes=num_nodes)
        check_int(0, patience=patience, seed=seed)
        check_positive(learning_rate=learning_rate, checkpoint_minutes=checkpoint_minutes)
        if checkpoint_epochs is not None:
            check_int(1, checkpoint_epochs=checkpoint_epochs)
        if run_dir is not None:
            check_path(run_dir=run_dir)
        check_function(optimizer=optimizer, scheduler=scheduler)
        check_flag(progress=progress, drop_targets=drop_targets)
        for number in neighbors if isinstance(neighbors, list) else [-1 if neighbors is None else neighbors]:
            check_neighbors(number)
        if drop_targets and neighbors is None:
            raise ValueError("'drop_targets' needs 'neighbors': the whole graph has all interactions")
        self.evaluator = evaluator or Evaluator()
        if monitor not in self.evaluator.metrics:
            raise ValueError(f"'monitor' must be one of {', '.join(self.evaluator.metrics)} (got {monitor!r})")
        self.max_epochs = max_epochs
        self.patience = patience
        self.evaluate_every = evaluate_every
        self.monitor = monitor
        self.batch_size = batch_size
        self.neighbors = neighbors
        self.drop_targets = drop_targets
        self.learning_rate = learning_rate
        self.seed = seed
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.run_dir = run_dir
        self.checkpoint_minutes = checkpoint_minutes
        self.checkpoint_epochs = checkpoint_epochs
        self.progress = progress
        if devices * num_nodes > 1 and strategy in ("auto", "ddp"):
            strategy = "ddp_find_unused_parameters_true"  # an auxiliary step reaches a part of the parameters
        self.fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            strategy=strategy,
            num_nodes=num_nodes,
            precision=precision,  # type: ignore[arg-type]
        )
        if devices * num_nodes > 1:
            self.fabric.launch()

    def fit(
        self,
        model: torch.nn.Module,
        train_data: HeteroData,
        val_data: HeteroData,
        test_data: HeteroData | None = None,
        *,
        resume: bool = False,
    ) -> TrainResult:
        """Trains the model in place; it ends with the weights of its best epoch.

        Args:
            model: A :class:`~pyg_mmrec.models.Recommender`.
            train_data: The train view of a split; with the modal graphs that the model reads.
            val_data: The validation view.
            test_data: The test view.
            resume: Go on from the checkpoint in ``run_dir``.

        Raises:
            ValueError: If the model cannot be trained on ``neighbors``; if ``run_dir`` holds a run and ``resume`` is
                not set, or holds one with other settings or data, or is in use by another process.
            FloatingPointError: If a loss or a gradient is not finite; names the term, the epoch and the batch.
            OSError: If a file cannot be written, such as on a full disk; what was there before is kept.
            KeyboardInterrupt: On Ctrl-C or SIGTERM, after the step under way, with a checkpoint written.
        """
        if self.fabric.device.type == "cpu":
            keep_freed_memory()
        sparse = sparse_gradients(model, self.neighbors is not None and self.optimizer is None)
        held = RunFolder(self.run_dir).in_use() if self.run_dir and self.fabric.is_global_zero else nullcontext()
        with held, sparse:
            return TrainRun(self, model, train_data, val_data, test_data, resume).result()

    def settings(self, model: Any) -> dict[str, Any]:
        """What decides a training's course, and so must be equal when it is resumed."""
        keys = ["max_epochs", "patience", "evaluate_every", "monitor", "batch_size", "neighbors", "drop_targets"]
        keys += ["learning_rate", "seed"]
        return {
            "model": type(model).__name__,
            **{f"model.{key}": value for key, value in model.config().items()},
            **{key: getattr(self, key) for key in keys},
            **self.evaluator.settings(),
            "optimizer": self.optimizer is not None,
            "scheduler": self.scheduler is not None,
            "precision": self.fabric._precision.precision,
            "world_size": self.fabric.world_size,
        }

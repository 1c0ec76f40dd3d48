"""The training loop."""

from __future__ import annotations

import copy
import importlib.util
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch_geometric.data import HeteroData
from tqdm.auto import tqdm

from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.loader import TripletLoader
from pyg_mmrec.training.checkpoint import FORMAT, load_checkpoint, write_atomically
from pyg_mmrec.training.interrupt import Interrupt, deferred_interrupt
from pyg_mmrec.training.run_folder import RunFolder
from pyg_mmrec.utils import with_operators
from pyg_mmrec.utils.seeds import derive_seed


@dataclass
class Progress:
    """Where a training is; everything that a checkpoint holds beside tensors."""

    epoch: int = 0  #: the epoch that runs next, or is under way
    step: int = 0  #: batches of that epoch that are done
    sums: dict[str, float] = field(default_factory=dict)  #: loss terms, summed over these batches
    best_epoch: int = -1
    best_value: float = -float("inf")
    seconds: float = 0.0  #: training and validation time of the finished epochs
    history: list[dict[str, float]] = field(default_factory=list)  #: one row an epoch
    finished: bool = False


@dataclass(frozen=True)
class TrainResult:
    """What a training came to."""

    best_epoch: int  #: counted from 0; -1 for models without parameters
    num_epochs: int  #: epochs that were trained
    validation: dict[str, float]  #: metrics of the best epoch
    test: dict[str, float]  #: computed once, with the best epoch's weights; empty without test data
    history: list[dict[str, float]]  #: one row an epoch: loss terms, metrics if it was validated, seconds
    seconds: float  #: training and validation, resumed parts included


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
        batch_size: Interactions in a batch, over all processes (default: 2048).
        learning_rate: Of Adam (default: 1e-3).
        seed: Of batches, negatives, per-epoch graphs and dropout.
        evaluator: Its metrics must include ``monitor``; by default an :class:`~pyg_mmrec.evaluation.Evaluator`.
        optimizer: Makes the optimiser from the parameters, instead of Adam.
        scheduler: Makes a learning-rate scheduler from the optimiser; stepped after each epoch.
        run_dir: Where logs, checkpoints and the result go (see :class:`~pyg_mmrec.training.RunFolder`); nothing is
            written without it.
        checkpoint_minutes: Write a checkpoint after so many minutes (default: 5), also within an epoch.
        checkpoint_epochs: Write one after every so many epochs as well.
        accelerator: Of Lightning Fabric, ``'auto'``, ``'cpu'``, ``'cuda'``, ...
        devices: Number of processes or devices.
        strategy: Of Lightning Fabric, ``'auto'``, ``'ddp'``, ...
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
        batch_size: int = 2048,
        learning_rate: float = 1e-3,
        seed: int = 0,
        evaluator: Evaluator | None = None,
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
        limits = {"max_epochs": 1, "patience": 0, "evaluate_every": 1, "batch_size": 1, "seed": 0, "devices": 1}
        limits["num_nodes"] = 1
        for name, low in limits.items():
            if locals()[name] < low:
                raise ValueError(f"'{name}' must be at least {low} (got {locals()[name]})")
        for name in ("learning_rate", "checkpoint_minutes"):
            if not locals()[name] > 0:
                raise ValueError(f"'{name}' must be positive (got {locals()[name]})")
        if checkpoint_epochs is not None and checkpoint_epochs < 1:
            raise ValueError(f"'checkpoint_epochs' must be at least 1 (got {checkpoint_epochs})")
        self.evaluator = evaluator or Evaluator()
        if monitor not in self.evaluator.metrics:
            raise ValueError(f"'monitor' must be one of {', '.join(self.evaluator.metrics)} (got {monitor!r})")
        self.max_epochs = max_epochs
        self.patience = patience
        self.evaluate_every = evaluate_every
        self.monitor = monitor
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.seed = seed
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.run_dir = run_dir
        self.checkpoint_minutes = checkpoint_minutes
        self.checkpoint_epochs = checkpoint_epochs
        self.progress = progress
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
            ValueError: If ``run_dir`` holds a run and ``resume`` is not set, or holds one with other settings.
            FloatingPointError: If a loss is not finite; names the term, the epoch and the batch.
            KeyboardInterrupt: On Ctrl-C, after the step under way, with a checkpoint written.
        """
        return _Run(self, model, train_data, val_data, test_data, resume).result()

    def settings(self, model: Any) -> dict[str, Any]:
        """What decides a training's course, and so must be equal when it is resumed."""
        keys = ("max_epochs", "patience", "evaluate_every", "monitor", "batch_size", "learning_rate", "seed")
        return {
            "model": type(model).__name__,
            **{f"model.{key}": value for key, value in model.config().items()},
            **{key: getattr(self, key) for key in keys},
            "metrics": list(self.evaluator.metrics),
            "optimizer": self.optimizer is not None,
            "scheduler": self.scheduler is not None,
            "precision": self.fabric._precision.precision,
            "world_size": self.fabric.world_size,
        }


class _Run:
    """One call of :meth:`Trainer.fit`: the set-up, then :meth:`result`."""

    def __init__(
        self,
        trainer: Trainer,
        model: torch.nn.Module,
        train_data: HeteroData,
        val_data: HeteroData,
        test_data: HeteroData | None,
        resume: bool,
    ) -> None:
        self.trainer, self.fabric = trainer, trainer.fabric
        self.settings = trainer.settings(model)
        self.folder = RunFolder(trainer.run_dir) if trainer.run_dir is not None else None
        if resume and self.folder is None:
            raise ValueError("'resume' needs the 'run_dir' of the run to go on with")
        if self.folder is not None and not resume and RunFolder.holds_run(self.folder.path):
            raise ValueError(f"'{self.folder.path}' already holds a run: resume it or choose another 'run_dir'")
        checkpoint = load_checkpoint(self.folder.checkpoint, self.settings) if resume and self.folder else None

        def on_device(data: HeteroData) -> HeteroData:
            return copy.copy(data).to(self.fabric.device)

        self.train_data = with_operators(on_device(train_data))
        self.val_data = with_operators(on_device(val_data))
        self.test_data = None if test_data is None else on_device(test_data)
        self.loader = TripletLoader(
            self.train_data,
            trainer.batch_size,
            trainer.seed,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
        )
        self.module: Any = model
        self._set_up_model(model)
        self.state = Progress()
        self.best = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        if checkpoint is not None:
            self._restore(checkpoint)
        if self.folder is not None and self.fabric.is_global_zero and checkpoint is None:
            self.folder.write_start(self.settings)
        self.logger = self._tensorboard()
        self.last_checkpoint = time.monotonic()

    def _set_up_model(self, model: Any) -> None:
        auxiliary = list(model.auxiliary_parameters())
        inner = {id(parameter) for parameter in auxiliary}
        main = [parameter for parameter in model.parameters() if id(parameter) not in inner]
        self.optimizers: list[Any] = [self._make_optimizer(part) for part in (main, auxiliary) if part]
        if not self.optimizers:  # nothing to train
            self.model: Any = self.fabric.to_device(model)
            self.scheduler = None
            return
        make_scheduler = self.trainer.scheduler
        self.scheduler = make_scheduler(self.optimizers[0]) if make_scheduler is not None else None
        self.model, *self.optimizers = self.fabric.setup(model, *self.optimizers)
        for name in ("loss", "auxiliary_loss"):
            self.model.mark_forward_method(name)

    def _make_optimizer(self, parameters: list[torch.nn.Parameter]) -> Optimizer:
        if self.trainer.optimizer is not None:
            return self.trainer.optimizer(parameters)
        return torch.optim.Adam(parameters, lr=self.trainer.learning_rate, fused=True)

    def result(self) -> TrainResult:
        """Trains what is left to train, then tests."""
        validation: dict[str, float] = {}
        if self.optimizers:
            with deferred_interrupt() as interrupt:
                self._epochs(interrupt)
            self.module.load_state_dict(self.best)
            names = self.trainer.evaluator.metrics
            validation = {name: self.state.history[self.state.best_epoch][name] for name in names}
        else:
            validation = self.trainer.evaluator(self.module, self.val_data)
        test = {} if self.test_data is None else self.trainer.evaluator(self.module, self.test_data)
        state = self.state
        result = TrainResult(state.best_epoch, len(state.history), validation, test, list(state.history), state.seconds)
        if self.folder is not None and self.fabric.is_global_zero:
            self.module.save_pretrained(self.folder.model)
            self.folder.write_metrics({key: value for key, value in asdict(result).items() if key != "history"})
        return result

    def _epochs(self, interrupt: Interrupt) -> None:
        state = self.state
        bar = tqdm(
            total=self.trainer.max_epochs,
            initial=state.epoch,
            unit="epoch",
            disable=None if self.trainer.progress and self.fabric.is_global_zero else True,
        )
        with bar:
            while not state.finished:
                start = time.perf_counter()
                losses = self._train_epoch(interrupt)
                metrics = self._validate()
                self._finish_epoch(losses, metrics, time.perf_counter() - start)
                if metrics:
                    monitored = f"{metrics[self.trainer.monitor]:.4f}"
                    bar.set_postfix({self.trainer.monitor: monitored, "best": state.best_epoch})
                bar.update()
                self._checkpoint_if_due(interrupt, epoch_done=True)

    def _train_epoch(self, interrupt: Interrupt) -> dict[str, float]:
        """Trains the batches of the epoch that are left; returns the mean of each loss term."""
        state, seed = self.state, self.trainer.seed
        generator = torch.Generator().manual_seed(derive_seed(seed, state.epoch, 1))
        data = self.module.resample(self.train_data, generator)
        self.model.train()
        for batch in self.loader.epoch(state.epoch, start=state.step):
            torch.manual_seed(derive_seed(seed, state.epoch, state.step, self.fabric.global_rank))
            if len(self.optimizers) > 1:
                self._descend(self.optimizers[1], self.model.auxiliary_loss(data, batch))
            losses = self._descend(self.optimizers[0], self.model.loss(data, batch))
            for name, value in losses.items():
                state.sums[name] = state.sums.get(name, 0.0) + value
            state.step += 1
            self._checkpoint_if_due(interrupt)
        return {name: value / state.step for name, value in state.sums.items()}

    def _validate(self) -> dict[str, float]:
        """The validation metrics, where they are due after this epoch."""
        trainer, done = self.trainer, self.state.epoch + 1
        due = done % trainer.evaluate_every == 0 or done == trainer.max_epochs
        return trainer.evaluator(self.module, self.val_data) if due else {}

    def _descend(self, optimizer: Optimizer, losses: dict[str, Tensor]) -> dict[str, float]:
        """One optimiser step on the sum of the terms; returns their values."""
        values = dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))
        for name, value in values.items():
            if not abs(value) < float("inf"):
                kept = f"; the last checkpoint is kept in '{self.folder.path}'" if self.folder else ""
                raise FloatingPointError(
                    f"loss term '{name}' is {value} in epoch {self.state.epoch}, batch {self.state.step}: lower the "
                    f"learning rate or check the features{kept}"
                )
        optimizer.zero_grad()
        self.fabric.backward(torch.stack(list(losses.values())).sum())
        optimizer.step()
        return values

    def _finish_epoch(self, losses: dict[str, float], metrics: dict[str, float], seconds: float) -> None:
        """Books the epoch and, if it was validated, decides whether it is the best, and the last."""
        state, trainer = self.state, self.trainer
        row = {"epoch": state.epoch, **{f"loss_{name}": value for name, value in losses.items()}, **metrics}
        state.history.append({**row, "seconds": seconds})
        state.seconds += seconds
        if metrics and metrics[trainer.monitor] > state.best_value:
            state.best_epoch, state.best_value = state.epoch, metrics[trainer.monitor]
            self.best = {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}
        if self.scheduler is not None:
            self.scheduler.step()
        state.epoch, state.step, state.sums = state.epoch + 1, 0, {}
        stale = state.epoch - 1 - state.best_epoch
        state.finished = bool(metrics) and (stale > trainer.patience or state.epoch == trainer.max_epochs)
        if self.folder is not None and self.fabric.is_global_zero:
            self.folder.write_history(state.history)
            if self.logger is not None:
                self.logger.log_metrics(row, step=int(row["epoch"]))

    def _checkpoint_if_due(self, interrupt: Interrupt, epoch_done: bool = False) -> None:
        every = self.trainer.checkpoint_epochs
        due = time.monotonic() - self.last_checkpoint > 60 * self.trainer.checkpoint_minutes
        due |= epoch_done and (self.state.finished or (every is not None and self.state.epoch % every == 0))
        if self.folder is not None and (due or interrupt.requested):
            self._save(self.folder)
        if interrupt.requested:
            where = f": resume from '{self.folder.path}'" if self.folder is not None else ""
            raise KeyboardInterrupt(f"stopped in epoch {self.state.epoch} after batch {self.state.step}{where}")

    def _save(self, folder: RunFolder) -> None:
        content: dict[str, Any] = {
            "format": FORMAT,
            "settings": self.settings,
            "model": self.module.state_dict(),
            "best": self.best,
            "progress": asdict(self.state),
            **{f"optimizer{i}": optimizer.state_dict() for i, optimizer in enumerate(self.optimizers)},
        }
        if self.scheduler is not None:
            content["scheduler"] = self.scheduler.state_dict()
        if self.fabric.is_global_zero:
            write_atomically(folder.checkpoint, lambda path: torch.save(content, path))  # fabric.save waits for all
        self.last_checkpoint = time.monotonic()

    def _restore(self, checkpoint: dict[str, Any]) -> None:
        self.module.load_state_dict(checkpoint["model"])
        self.best = {name: tensor.to(self.fabric.device) for name, tensor in checkpoint["best"].items()}
        for i, optimizer in enumerate(self.optimizers):
            optimizer.load_state_dict(checkpoint[f"optimizer{i}"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(checkpoint["scheduler"])
        self.state = Progress(**checkpoint["progress"])

    def _tensorboard(self) -> TensorBoardLogger | None:
        if self.folder is None or not self.fabric.is_global_zero or importlib.util.find_spec("tensorboard") is None:
            return None
        return TensorBoardLogger(self.folder.path, name="", version="", purge_step=self.state.epoch)

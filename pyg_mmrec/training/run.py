"""One training, from its start or its last checkpoint to its result."""

from __future__ import annotations

import copy
import importlib.util
import math
import time
import warnings
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, cast

import torch
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from torch import Tensor
from torch.optim import Optimizer
from torch_geometric.data import HeteroData
from tqdm.auto import tqdm

from pyg_mmrec.loader import HistoryLoader, SubgraphSampler, TripletLoader
from pyg_mmrec.training.checkpoint import FORMAT, load_checkpoint
from pyg_mmrec.training.interrupt import Interrupt, deferred_interrupt
from pyg_mmrec.training.lazy_adam import LazyAdam
from pyg_mmrec.training.run_folder import RunFolder
from pyg_mmrec.typing import INTERACTS, ITEM, Batches, Histories, Triplets
from pyg_mmrec.utils import interactions, with_operators
from pyg_mmrec.utils.files import write_atomically
from pyg_mmrec.utils.hashing import tensor_hash
from pyg_mmrec.utils.precision import at_least_single
from pyg_mmrec.utils.seeds import derive_seed

if TYPE_CHECKING:
    from pyg_mmrec.training.trainer import Trainer


#: What makes each kind of batch.
LOADERS: dict[Batches, Any] = {"triplets": TripletLoader, "histories": HistoryLoader}


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


class TrainRun:
    """One call of :meth:`Trainer.fit <pyg_mmrec.training.Trainer.fit>`: the set-up, then :meth:`result`."""

    def __init__(
        self,
        trainer: Trainer,
        model: Any,
        train_data: HeteroData,
        val_data: HeteroData,
        test_data: HeteroData | None,
        resume: bool,
    ) -> None:
        self.trainer, self.fabric = trainer, trainer.fabric
        self.sampler = self._make_sampler(model)
        model.check_data(train_data)
        for data in (val_data, test_data):
            if data is not None:
                trainer.evaluator.check(data)
        edges = interactions(train_data), train_data[INTERACTS].get("edge_label_index"), interactions(val_data)
        heldout = val_data[INTERACTS].get("edge_label_index")
        for name, data in (("validation", val_data), ("test", test_data)):
            if data is not None:
                _warn_of_known_pairs(name, data, train_data)
        self.settings = {**trainer.settings(model), "interactions": tensor_hash(*edges, heldout)}
        self.folder = RunFolder(trainer.run_dir) if trainer.run_dir is not None else None
        if resume and self.folder is None:
            raise ValueError("'resume' needs the 'run_dir' of the run to go on with")
        if self.folder is not None and not resume and RunFolder.holds_run(self.folder.path):
            raise ValueError(f"'{self.folder.path}' already holds a run: resume it or choose another 'run_dir'")

        def on_device(data: HeteroData) -> HeteroData:
            return copy.copy(data).to(self.fabric.device)

        self.train_data = with_operators(on_device(train_data))
        self.val_data = with_operators(on_device(val_data))
        self.test_data = None if test_data is None else on_device(test_data)
        if model.batches not in LOADERS:
            raise ValueError(
                f"{type(model).__name__}.batches must be one of {', '.join(LOADERS)} (got {model.batches!r})"
            )
        self.loader = LOADERS[model.batches](
            self.train_data,
            trainer.batch_size,
            trainer.seed,
            **model.batch_options(),
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
        )
        self.settings["batch_size"] = self.loader.batch_size  # in numbers where it grows with the data
        checkpoint = load_checkpoint(self.folder.checkpoint, self.settings) if resume and self.folder else None
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

    def _make_sampler(self, model: Any) -> SubgraphSampler | None:
        """What cuts out the part of the graph that a batch reads, where that is asked for."""
        trainer = self.trainer
        if trainer.neighbors is None:
            return None
        if (reach := model.reach()) is None:
            raise ValueError(
                f"{type(model).__name__} reads the whole graph in each step and cannot be trained on samples of it: "
                "leave out 'neighbors', or choose a larger 'batch_size' such as 'auto'"
            )
        return SubgraphSampler(reach, trainer.neighbors, trainer.drop_targets)

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
        if self.sampler is not None:
            return LazyAdam(parameters, lr=self.trainer.learning_rate)
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
        if state.step == 0:
            generator = torch.Generator().manual_seed(derive_seed(seed, state.epoch, 2))
            self.module.start_epoch(self.train_data, state.epoch, generator)
        generator = torch.Generator().manual_seed(derive_seed(seed, state.epoch, 1))
        data = self.module.resample(self.train_data, generator)
        self.model.train()
        for batch in self.loader.epoch(state.epoch, start=state.step):
            view, batch = self._sampled(data, batch)
            self._seed_step()
            if len(self.optimizers) > 1:
                self._descend(self.optimizers[1], "auxiliary_loss", view, batch)
            for name, value in self._descend(self.optimizers[0], "loss", view, batch).items():
                state.sums[name] = state.sums.get(name, 0.0) + value
            state.step += 1
            self._checkpoint_if_due(interrupt)
        return {name: value / state.step for name, value in state.sums.items()}

    def _sampled(self, data: HeteroData, batch: Any) -> tuple[HeteroData, Any]:
        """What a step reads of the graph, and its batch in the numbers of that."""
        if self.sampler is None:
            return data, batch
        seed = derive_seed(self.trainer.seed, self.state.epoch, self.state.step, self.fabric.global_rank, 1)
        return self.sampler(data, batch, torch.Generator().manual_seed(seed))

    def _validate(self) -> dict[str, float]:
        """The validation metrics, where they are due after this epoch."""
        trainer, done = self.trainer, self.state.epoch + 1
        due = done % trainer.evaluate_every == 0 or done == trainer.max_epochs
        return trainer.evaluator(self.module, self.val_data) if due else {}

    def _seed_step(self) -> None:
        """Seeds what a step draws; ``torch.manual_seed`` would spend a millisecond on devices that are not there."""
        seed = derive_seed(self.trainer.seed, self.state.epoch, self.state.step, self.fabric.global_rank)
        torch.default_generator.manual_seed(seed)
        if self.fabric.device.type != "cpu":
            torch.get_device_module(self.fabric.device).manual_seed(seed)

    def _descend(
        self, optimizer: Optimizer, loss: str, data: HeteroData, batch: Triplets | Histories
    ) -> dict[str, float]:
        """One optimiser step on the sum of the terms that the model's method ``loss`` gives; returns their values."""
        with self.fabric.autocast():  # which Fabric leaves to us where it does not wrap the model
            terms = getattr(self.model, loss)(data, batch)
        is_dict = isinstance(terms, dict) and bool(terms)
        if not is_dict or any(not isinstance(term, Tensor) or term.dim() for term in terms.values()):
            found = {name: _form(term) for name, term in terms.items()} if is_dict else _form(terms)
            raise ValueError(
                f"'{loss}' of the model must give a dictionary of at least one term, a tensor without dimensions each "
                f"(got {found})"
            )
        weighted = torch.stack(at_least_single(*terms.values())) * self.loader.share(self.state.step)
        values = dict(zip(terms, self._mean(weighted.detach()).tolist(), strict=True))
        for name, value in values.items():
            if not math.isfinite(value):
                self._refuse(f"loss term '{name}' is {value}")
        optimizer.zero_grad()
        self.fabric.backward(weighted.sum())
        scaler = getattr(self.fabric._precision, "scaler", None)  # leaves out steps that overflow half precision
        if scaler is None and not _gradients_are_finite(optimizer):
            self._refuse(self._culprit(loss, data, batch))
        optimizer.step()
        return values

    def _mean(self, values: Tensor) -> Tensor:
        """Mean over the processes."""
        return values if self.fabric.world_size == 1 else cast("Tensor", self.fabric.all_reduce(values))

    def _any(self, flag: bool) -> bool:
        """Whether it is set in one of the processes."""
        if self.fabric.world_size == 1:
            return flag
        return bool(self._mean(torch.tensor(float(flag), device=self.fabric.device)) > 0)

    def _culprit(self, loss: str, data: HeteroData, batch: Triplets | Histories) -> str:
        """Which term gives a gradient that is not finite, and where; computes the step anew."""
        self._seed_step()
        parameters = dict(self.module.named_parameters())
        with self.fabric.autocast():
            terms = getattr(self.model, loss)(data, batch)
        for term, value in terms.items():
            grads = torch.autograd.grad(value, list(parameters.values()), retain_graph=True, allow_unused=True)
            for name, grad in zip(parameters, grads, strict=True):
                if grad is not None and not _entries(grad).isfinite().all():
                    return f"the gradient of loss term '{term}' for '{name}' is not finite"
        return "the gradient of the sum of the loss terms is not finite"

    def _refuse(self, what: str) -> NoReturn:
        kept = self.folder is not None and self.folder.holds_run(self.folder.path)
        where = f"; the last checkpoint is kept in '{self.trainer.run_dir}'" if kept else ""
        raise FloatingPointError(
            f"{what} in epoch {self.state.epoch}, batch {self.state.step}: lower the learning rate or check the "
            f"features{where}"
        )

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
        stop = self._any(interrupt.requested)
        if self.folder is not None and (due or stop):
            self._save(self.folder)
        if stop:
            where = f": resume from '{self.folder.path}'" if self.folder is not None else ""
            raise KeyboardInterrupt(f"stopped in epoch {self.state.epoch} after batch {self.state.step}{where}")

    def _save(self, folder: RunFolder) -> None:
        content: dict[str, Any] = {
            "format": FORMAT,
            "settings": self.settings,
            "model": self.module.state_dict(),
            "best": self.best,
            "progress": asdict(self.state),
            "optimizers": [{"class": _described(part), "state": part.state_dict()} for part in self.optimizers],
            "precision": self.fabric._precision.state_dict(),
        }
        if self.scheduler is not None:
            content["scheduler"] = self.scheduler.state_dict()
        if self.fabric.is_global_zero:
            write_atomically(folder.checkpoint, lambda path: torch.save(content, path))  # fabric.save waits for all
        self.last_checkpoint = time.monotonic()

    def _restore(self, checkpoint: dict[str, Any]) -> None:
        self.module.load_state_dict(checkpoint["model"])
        self.best = {name: tensor.to(self.fabric.device) for name, tensor in checkpoint["best"].items()}
        for written, optimizer in zip(checkpoint["optimizers"], self.optimizers, strict=True):
            if written["class"] != _described(optimizer):
                raise ValueError(
                    f"the run in '{self.trainer.run_dir}' was trained with {written['class']}, not "
                    f"{_described(optimizer)}: resume with the same optimizer or start a new run"
                )
            optimizer.load_state_dict(written["state"])
        self.fabric._precision.load_state_dict(checkpoint["precision"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(checkpoint["scheduler"])
        self.state = Progress(**checkpoint["progress"])

    def _tensorboard(self) -> TensorBoardLogger | None:
        if self.folder is None or not self.fabric.is_global_zero or importlib.util.find_spec("tensorboard") is None:
            return None
        return TensorBoardLogger(self.folder.path, name="", version="", purge_step=self.state.epoch)


def _gradients_are_finite(optimizer: Optimizer) -> bool:
    """Whether all gradients that the next step reads are; their norm alone says so, unless it overflows."""
    grads = [_entries(p.grad) for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(grads)
    return bool(norm.isfinite()) or all(bool(grad.isfinite().all()) for grad in grads)


def _entries(grad: Tensor) -> Tensor:
    """The entries that a gradient holds."""
    return grad._values() if grad.is_sparse else grad


def _described(optimizer: Any) -> str:
    """An optimiser's class and settings, to compare with those of the run that is resumed."""
    inner = getattr(optimizer, "optimizer", optimizer)  # as Fabric wraps it
    settings = ", ".join(f"{key}={value}" for key, value in sorted(inner.defaults.items()))
    return f"{type(inner).__name__}({settings})"


def _form(value: Any) -> str:
    return f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else repr(value)


def _warn_of_known_pairs(name: str, view: HeteroData, train_data: HeteroData) -> None:
    """Warns where held-out pairs are among the interactions that the model learns from."""
    num_items = train_data[ITEM].num_nodes
    held_out, known = (
        user * num_items + item for user, item in (view[INTERACTS].edge_label_index, interactions(train_data))
    )
    number = int(torch.isin(held_out, known.to(held_out.device)).sum())
    if number:
        warnings.warn(
            f"{number} of the {held_out.numel()} held-out pairs of the {name} view are among the train view's "
            f"interactions, which the model has seen: take all views from one split",
            stacklevel=4,
        )

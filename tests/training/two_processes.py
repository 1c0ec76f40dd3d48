"""Trains in one process or two and saves the weights; run by test_processes.py in processes of its own."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.models import BPRMF, FREEDOM, SEA, LightGCN
from pyg_mmrec.training import Trainer
from pyg_mmrec.typing import Triplets


class Estimating(BPRMF):
    """BPR-MF whose scores are scaled by a number that an inner loss fits to the users of the batch."""

    def __init__(self, num_users: int, num_items: int, *, hidden_channels: int) -> None:
        super().__init__(num_users, num_items, hidden_channels=hidden_channels)
        self.inner = torch.nn.Parameter(torch.tensor(1.0))

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        return {name: self.inner * value for name, value in super().loss(data, batch).items()}

    def auxiliary_parameters(self) -> Iterator[torch.nn.Parameter]:
        yield self.inner

    def auxiliary_loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        return {"fit": (self.inner - self.user_emb.weight[batch.user].square().sum(-1)).square().mean()}


MODELS = {cls.__name__: cls for cls in (BPRMF, LightGCN, FREEDOM, SEA, Estimating)}
NEIGHBORS = {"sampled": -1}
ARGS = {"SEA": {"distancing": "negative"}}  # CLUB permutes the items at random, each process in its own way


def main(name: str, folder: Path, batch_size: int, devices: int, mode: str) -> None:
    """``mode`` is ``whole``, ``sampled``, ``stop`` (the last process gets a Ctrl-C) or ``resume``."""
    warnings.filterwarnings("ignore")
    views = pickle.loads((folder / "views.pickle").read_bytes())
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = MODELS[name].from_data(views[0], hidden_channels=8, **ARGS.get(name, {}))
    trainer = Trainer(
        max_epochs=3,
        batch_size=batch_size,
        learning_rate=0.002,  # differences of rounding grow with it
        monitor="recall@3",
        evaluator=Evaluator(["recall@3"]),
        neighbors=NEIGHBORS.get(mode),
        run_dir=folder / f"{name}-{devices}-{'stopped' if mode in ('stop', 'resume') else mode}",
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        progress=False,
    )
    if mode == "stop" and trainer.fabric.global_rank == devices - 1:
        compute, calls = model.loss, []

        def loss(self: Any, *args: Any) -> dict[str, Tensor]:
            calls.append(1)
            if len(calls) == 9:
                os.kill(os.getpid(), signal.SIGINT)
            return compute(*args)

        model.loss = MethodType(loss, model)
    try:
        trainer.fit(model, *views, resume=mode == "resume")
    except KeyboardInterrupt:
        sys.stdout.write("stopped\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])

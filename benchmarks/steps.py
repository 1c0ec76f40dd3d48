"""Timing training steps in a process of their own, so that peak memory is their own."""

from __future__ import annotations

import datetime
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from measure import peak_gib
from torch_geometric.data import HeteroData

from pyg_mmrec.models import Recommender
from pyg_mmrec.typing import Histories, Triplets
from pyg_mmrec.utils import keep_freed_memory

WARM_UP = 2


def time_steps(model: Recommender, data: HeteroData, batches: Iterable[Triplets | Histories]) -> dict[str, float]:
    """Median wall and CPU seconds of a step, the steps' sum without the first two, and this process's peak memory."""
    keep_freed_memory()  # as the trainer does
    auxiliary = list(model.auxiliary_parameters())
    inner = {id(parameter) for parameter in auxiliary}
    main = [parameter for parameter in model.parameters() if id(parameter) not in inner]
    parts = [(model.auxiliary_loss, auxiliary), (model.loss, main)] if auxiliary else [(model.loss, main)]
    optimizers = [(compute, torch.optim.Adam(part, lr=1e-4, fused=True)) for compute, part in parts]
    wall, cpu = [], []
    for batch in batches:
        start, cpu_start = time.perf_counter(), time.process_time()
        for compute, optimizer in optimizers:
            loss = torch.stack(list(compute(data, batch).values())).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
    return {
        "seconds": statistics.median(wall[WARM_UP:]),
        "cpu_seconds": statistics.median(cpu[WARM_UP:]),
        "sum_seconds": sum(wall[WARM_UP:]),
        "peak_gib": peak_gib(),
    }


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Writes and prints measured rows with where and when they were measured."""
    table["threads"], table["torch"] = torch.get_num_threads(), torch.__version__
    table["machine"], table["date"] = platform.machine(), datetime.date.today().isoformat()
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
    print(table.to_string(index=False))


def in_own_process(script: str, *arguments: str) -> dict[str, Any]:
    """What a script prints as JSON."""
    command = [sys.executable, script, *arguments]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found

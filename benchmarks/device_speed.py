"""Epochs and hot loops on any device at Amazon Baby's sizes, and what share of the device's own rates they reach.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/device_speed.py
    python benchmarks/device_speed.py --device cuda --modes eager bf16 compiled graph

Epochs of LightGCN, FREEDOM and SEA (variant b, aligned among 2,048 items) are 57 whole batches of 2048: ``eager`` in
single precision, ``bf16`` in mixed precision, ``compiled`` with the loss compiled by ``torch.compile``, ``graph`` with
the whole step replayed as a CUDA graph (on CUDA only). A mode that a model does not run in is a row with the reason in
place of the figures. The hot loops are compared with rates measured in the same run: memory copied, and products of two
4096 x 4096 matrices. Bytes and operations are counted as if nothing stayed in a cache, so that a loop whose data does
may exceed the rate of copies. Times are CUDA events on CUDA, wall time elsewhere. Writes
``results/device_<name>.csv``, named by the device.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from speed import CHANNELS, NUM_ITEMS, NUM_USERS, baby_sized
from torch_geometric.data import HeteroData

from pyg_mmrec.loader import TripletLoader
from pyg_mmrec.models import FREEDOM, SEA, LightGCN, Recommender
from pyg_mmrec.transforms import ModalKNNGraph
from pyg_mmrec.typing import INTERACTS, Triplets
from pyg_mmrec.utils import interaction_operator, keep_freed_memory, knn, with_operators

MODES = ("eager", "bf16", "compiled", "graph")
SIDE = 4096
WARM_UP = 3

MODELS: dict[str, tuple[type[Recommender], dict[str, Any]]] = {
    "LightGCN": (LightGCN, {"num_layers": 2}),
    "FREEDOM": (FREEDOM, {}),
    "SEA": (SEA, {"alignment": "solosim", "distancing": "negative", "align_items": 2048}),
}

Step = Callable[[HeteroData, Triplets], object]


def timed(run: Callable[[], object], device: torch.device, repeats: int, warm_up: int = 1) -> list[float]:
    """Seconds of each repetition."""
    for _ in range(warm_up):
        run()
    found = []
    for _ in range(repeats):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            end.synchronize()
            found.append(start.elapsed_time(end) / 1000)
        else:
            begin = time.perf_counter()
            run()
            found.append(time.perf_counter() - begin)
    return found


def rates(device: torch.device, repeats: int) -> dict[str, float]:
    """Bytes a second of a copy (read and written), operations a second of a product in single precision."""
    source = torch.ones(2**26, device=device)
    target = torch.empty_like(source)
    matrix = torch.randn(SIDE, SIDE, device=device)
    copied = statistics.median(timed(lambda: target.copy_(source), device, repeats))
    multiplied = statistics.median(timed(lambda: matrix @ matrix, device, max(repeats // 5, 3)))
    return {"bytes": 2 * source.numel() * 4 / copied, "operations": 2 * SIDE**3 / multiplied}


def loops(data: HeteroData, device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """The loops that training and ranking spend their time in, with what each has to move and to compute."""
    operator, num_nodes = interaction_operator(data), NUM_USERS + NUM_ITEMS
    back = operator.t()
    user, item = (torch.randn(number, CHANNELS, device=device) for number in (NUM_USERS, NUM_ITEMS))
    features, weight = data["item"].x_image, torch.randn(4096, CHANNELS, device=device)
    parameter = torch.nn.Parameter(torch.randn(num_nodes, CHANNELS, device=device))
    parameter.grad = torch.randn_like(parameter)
    adam = torch.optim.Adam([parameter], fused=True)
    edges, row = operator.num_edges, 4 * CHANNELS
    found = {
        "a layer of propagation": (
            lambda: (operator @ user, back @ item),
            2 * edges * (8 + row) + num_nodes * row,
            4 * edges * CHANNELS,
        ),
        "projection of 4096-d features": (
            lambda: features @ weight,
            4 * (NUM_ITEMS * 4096 + 4096 * CHANNELS + NUM_ITEMS * CHANNELS),
            2 * NUM_ITEMS * 4096 * CHANNELS,
        ),
        "scores of 1024 users": (
            lambda: user[:1024] @ item.t(),
            4 * (1024 * NUM_ITEMS + (1024 + NUM_ITEMS) * CHANNELS),
            2 * 1024 * NUM_ITEMS * CHANNELS,
        ),
        "a step of Adam": (adam.step, 7 * num_nodes * row, 12 * num_nodes * CHANNELS),
        "kNN graph of 384-d features": (
            lambda: knn(data["item"].x_text, 10),
            4 * NUM_ITEMS * 384,
            2 * NUM_ITEMS**2 * 384,
        ),
    }
    rows = []
    for name, (run, moved, computed) in found.items():
        seconds = timed(run, device, repeats)
        rows.append({"what": name, **spread(seconds), "bytes": moved, "operations": computed})
    return rows


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"seconds": statistics.median(seconds), "least": min(seconds), "most": max(seconds)}


def training_step(model: Recommender, mode: str) -> Step:
    """One step of Adam in a mode, with the model's own inner step where it has one."""
    device_type = next(model.parameters()).device.type
    inner = list(model.auxiliary_parameters())
    known = {id(parameter) for parameter in inner}
    outer = [parameter for parameter in model.parameters() if id(parameter) not in known]
    captured = {"capturable": True} if mode == "graph" else {"fused": True}
    compute = torch.compile(model.loss) if mode == "compiled" else model.loss
    parts = [(compute, torch.optim.Adam(outer, **captured))]
    if inner:
        parts.insert(0, (model.auxiliary_loss, torch.optim.Adam(inner, **captured)))

    def step(data: HeteroData, batch: Triplets) -> None:
        for losses, optimizer in parts:
            optimizer.zero_grad()
            with torch.autocast(device_type, dtype=torch.bfloat16, enabled=mode == "bf16"):
                total = torch.stack(list(losses(data, batch).values())).sum()
            total.backward()
            optimizer.step()

    return step


def as_graph(step: Step, data: HeteroData, batch: Triplets) -> Step:
    """The step as a CUDA graph that reads its batch from fixed places."""
    place = Triplets(*(part.clone() for part in batch))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step(data, place)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(data, place)

    def replay(_: HeteroData, batch: Triplets) -> None:
        for target, part in zip(place, batch, strict=True):
            target.copy_(part)
        graph.replay()

    return replay


def epoch(model: Recommender, data: HeteroData, mode: str, device: torch.device, repeats: int) -> dict[str, Any]:
    """Seconds of an epoch's steps, its batches on the device; the reason where the mode does not run."""
    view = model.resample(data, torch.Generator().manual_seed(0))
    batches = [Triplets(*(part.to(device) for part in batch)) for batch in TripletLoader(data).epoch(0)]
    full = [batch for batch in batches if len(batch.user) == len(batches[0].user)]  # a graph has one size
    step = training_step(model, mode)
    try:
        start = time.perf_counter()
        run = as_graph(step, view, full[0]) if mode == "graph" else step
        run(view, full[0])
        first = time.perf_counter() - start

        def steps() -> None:
            for batch in full:
                run(view, batch)

        return {**spread(timed(steps, device, repeats)), "first_step": first, "steps": len(full), "note": ""}
    except (RuntimeError, torch._dynamo.exc.TorchDynamoException) as error:
        return {"note": f"does not run: {str(error).splitlines()[0][:100]}"}


def device_name(device: torch.device) -> str:
    """What the file is named by."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}_{platform.machine()}"
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def measured(args: argparse.Namespace, device: torch.device) -> pd.DataFrame:
    """All rows of a run."""
    found = rates(device, args.repeats)
    data = baby_sized(torch.Generator().manual_seed(0))
    data = ModalKNNGraph(k=10)(data)
    data[INTERACTS].edge_label_index = data[INTERACTS].edge_index
    data = with_operators(copy.copy(data).to(device))
    rows = [
        {"what": "copy of 256 MiB", "bytes_per_second": found["bytes"]},
        {"what": f"product of {SIDE} x {SIDE} matrices", "operations_per_second": found["operations"]},
    ]
    for row in loops(data, device, args.repeats):
        moved, computed = row.pop("bytes") / row["seconds"], row.pop("operations") / row["seconds"]
        shares = {"share_of_copies": moved / found["bytes"], "share_of_products": computed / found["operations"]}
        rows.append({**row, "bytes_per_second": moved, "operations_per_second": computed, **shares})
    for name in args.models:
        model_class, init_args = MODELS[name]
        for mode in args.modes:
            model = model_class.from_data(data, **init_args).to(device)
            rows.append({"what": f"epoch: {name}", "mode": mode, **epoch(model, data, mode, device, args.epochs)})
    return pd.DataFrame(rows)


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["eager", "bf16"])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS), help="whose epochs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=30, help="of a loop")
    parser.add_argument("--epochs", type=int, default=5, help="epochs of each model, after one to warm up")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as the trainer does
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device: leave out --device")
    if device.type != "cuda" and "graph" in args.modes:
        parser.error("--modes graph needs a CUDA device")
    table = measured(args, device)
    table["threads"], table["torch"] = args.threads, torch.__version__
    table["machine"], table["date"] = device_name(device), datetime.date.today().isoformat()
    args.results.mkdir(parents=True, exist_ok=True)
    table.to_csv(args.results / f"device_{device_name(device)}.csv", index=False)
    print(table.iloc[:, :-4].to_string(index=False, float_format=lambda value: f"{value:.4g}"))


if __name__ == "__main__":
    main()

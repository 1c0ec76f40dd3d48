"""Speed at Amazon Baby's sizes: propagation, epochs, evaluation, kNN graph.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/speed.py

The graph is random with Baby's numbers of users, items and train interactions and a long-tailed popularity; features
are random, 4096 and 384 wide. Every figure is the median of repeated runs after a warm-up; ratios are of figures from
the same run. Writes ``results/speed.csv``; compare only rows of one file.
"""

from __future__ import annotations

import argparse
import datetime
import platform
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from measure import peak_gib, seconds
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.nn import LGConv

from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.loader import TripletLoader
from pyg_mmrec.models import BPRMF, FREEDOM, VBPR, LightGCN, Recommender
from pyg_mmrec.nn.conv import LightGCNConv
from pyg_mmrec.transforms import ModalKNNGraph
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import (
    SparseOperator,
    interaction_operator,
    keep_freed_memory,
    normalized_weight,
    seen_items,
    with_operators,
)
from pyg_mmrec.utils.knn import knn

NUM_USERS, NUM_ITEMS, NUM_TRAIN, NUM_HELD_OUT, CHANNELS = 19_445, 7_050, 118_551, 20_559, 64


def baby_sized(generator: torch.Generator) -> HeteroData:
    """A validation view of Baby's sizes with random features."""
    popularity = 1 / torch.arange(1, NUM_ITEMS + 1).double() ** 0.6
    draws = 2 * (NUM_TRAIN + NUM_HELD_OUT)
    user = torch.randint(NUM_USERS, (draws,), generator=generator)
    item = popularity.multinomial(draws, replacement=True, generator=generator)
    pairs = (user * NUM_ITEMS + item).unique()
    pairs = pairs[torch.randperm(pairs.numel(), generator=generator)][: NUM_TRAIN + NUM_HELD_OUT]
    edges = torch.stack([pairs // NUM_ITEMS, pairs % NUM_ITEMS])
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = NUM_USERS, NUM_ITEMS
    data["item"].x_image = torch.randn(NUM_ITEMS, 4096, generator=generator)
    data["item"].x_text = torch.randn(NUM_ITEMS, 384, generator=generator)
    data[INTERACTS].edge_index = edges[:, :NUM_TRAIN]
    data[INTERACTS].edge_label_index = edges[:, NUM_TRAIN:]
    data["user"].seen_ptr, data["user"].seen_item = seen_items(data)
    return data


def propagation(data: HeteroData, repeats: int) -> dict[str, float]:
    """One layer over the bipartite graph, forward and backward, on each carrier of the graph."""
    edge_index = data[INTERACTS].edge_index
    operator = interaction_operator(data)
    weight = normalized_weight(edge_index, NUM_USERS, NUM_ITEMS)
    user = torch.randn(NUM_USERS, CHANNELS, requires_grad=True)
    item = torch.randn(NUM_ITEMS, CHANNELS, requires_grad=True)
    grad_user, grad_item = torch.randn(NUM_USERS, CHANNELS), torch.randn(NUM_ITEMS, CHANNELS)
    both = torch.randn(NUM_USERS + NUM_ITEMS, CHANNELS, requires_grad=True)
    grad_both = torch.cat([grad_user, grad_item])
    shifted = edge_index + torch.tensor([[0], [NUM_USERS]])
    square, square_weight = torch.cat([shifted, shifted.flip(0)], dim=1), weight.repeat(2)
    pyg, ours = LGConv(normalize=False), LightGCNConv(1)
    to_item = torch.sparse_csr_tensor(operator.rowptr, operator.col, operator.value, operator.shape)
    to_user = torch.sparse_csr_tensor(operator.rowptr_t, operator.col_t, operator.value_t, operator.shape[::-1])
    square_operator = SparseOperator.from_edge_index(
        square, square_weight, num_src=NUM_USERS + NUM_ITEMS, num_dst=NUM_USERS + NUM_ITEMS
    )
    registered = _custom_op(operator)

    def raw() -> None:  # the products alone: two forward, two backward
        to_item @ user.detach(), to_user @ item.detach(), to_user @ grad_item, to_item @ grad_user

    def function() -> None:
        torch.autograd.backward([operator.t() @ item, operator @ user], [grad_user, grad_item])

    return {
        "propagation: PyG LGConv on edge_index": seconds(
            lambda: pyg(both, square, square_weight).backward(grad_both), repeats
        ),
        "propagation: raw CSR products with stored transpose": seconds(raw, repeats),
        "propagation: SparseOperator, square matrix": seconds(
            lambda: (square_operator @ both).backward(grad_both), repeats
        ),
        "propagation: SparseOperator, autograd.Function": seconds(function, repeats),
        "propagation: SparseOperator, torch.library.custom_op": seconds(
            lambda: torch.autograd.backward(registered(user, item), [grad_user, grad_item]), repeats
        ),
        "propagation: LightGCNConv, one layer and mean": seconds(
            lambda: torch.autograd.backward(ours(user, item, operator), [grad_user, grad_item]), repeats
        ),
    }


def _custom_op(operator: SparseOperator) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The same product as a registered operator, the alternative to ``torch.autograd.Function``."""

    @torch.library.custom_op("pyg_mmrec_bench::spmm", mutates_args=())
    def spmm(
        rowptr: Tensor, col: Tensor, value: Tensor, rowptr_t: Tensor, col_t: Tensor, value_t: Tensor, x: Tensor
    ) -> Tensor:
        return torch.sparse_csr_tensor(rowptr, col, value, (rowptr.numel() - 1, rowptr_t.numel() - 1)) @ x

    def setup(ctx, inputs, output):  # type: ignore[no-untyped-def]
        ctx.graph = inputs[:6]

    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return *[None] * 6, spmm(*ctx.graph[3:], *ctx.graph[:3], grad)

    spmm.register_autograd(backward, setup_context=setup)
    graph = (operator.rowptr, operator.col, operator.value, operator.rowptr_t, operator.col_t, operator.value_t)
    return lambda user, item: (spmm(*graph[3:], *graph[:3], item), spmm(*graph, user))


def epoch(model: Recommender, data: HeteroData, repeats: int, batch_size: int = 2048) -> float:
    """One training epoch: resampling, negatives, and a step of Adam for each batch, memory kept as the trainer does."""
    keep_freed_memory()
    loader = TripletLoader(data, batch_size)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def run() -> None:
        view = model.resample(data, torch.Generator().manual_seed(0))
        for batch in loader.epoch(0):
            optimizer.zero_grad()
            torch.stack(list(model.loss(view, batch).values())).sum().backward()
            optimizer.step()

    return seconds(run, repeats)


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=30, help="of a propagation; epochs run three times")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(0)

    features = torch.randn(18_357, 384, generator=generator)
    before = peak_gib()
    figures = {"kNN graph, 18,357 x 384, k = 10": seconds(lambda: knn(features, 10), 3)}
    memory = 1024 * (peak_gib() - before)
    data = baby_sized(generator)
    figures |= propagation(data, args.repeats)
    train = with_operators(ModalKNNGraph(k=10)(data))
    train[INTERACTS].edge_label_index = train[INTERACTS].edge_index
    models = {
        "BPRMF": BPRMF.from_data(train),
        "LightGCN, 2 layers": LightGCN.from_data(train, num_layers=2),
        "LightGCN, 3 layers": LightGCN.from_data(train, num_layers=3),
        "VBPR, 4096 + 384 features": VBPR.from_data(train),
        "FREEDOM, no modal losses": FREEDOM.from_data(train, modal_loss_weight=0.0),
        "FREEDOM, 4096 + 384 features, modal losses": FREEDOM.from_data(train),
    }
    figures |= {f"epoch: {name}": epoch(model, train, 3) for name, model in models.items()}
    held_out = with_operators(data)
    evaluator, model = Evaluator(), models["LightGCN, 2 layers"]
    figures["full-ranking evaluation of all users"] = seconds(lambda: evaluator(model, held_out), 5)

    base = figures["propagation: PyG LGConv on edge_index"]
    raw = figures["propagation: raw CSR products with stored transpose"]
    rows = [
        {
            "what": name,
            "seconds": value,
            "times_faster_than_LGConv": base / value if name.startswith("propagation") else None,
            "times_raw_CSR": value / raw if name.startswith("propagation") else None,
            "threads": args.threads,
            "torch": torch.__version__,
            "machine": f"{platform.machine()}, {platform.system()}",
            "date": datetime.date.today().isoformat(),
        }
        for name, value in figures.items()
    ]
    table = pd.DataFrame(rows)
    table.to_csv(args.results / "speed.csv", index=False)
    print(table.iloc[:, :4].to_string(index=False, float_format=lambda value: f"{value:.4f}"))
    print(f"memory of the kNN graph over its input: {memory:.0f} MiB")


if __name__ == "__main__":
    main()

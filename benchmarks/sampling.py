"""Sampling neighbours: this package's sampler beside PyG's on the same graph.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/sampling.py --interactions 1e6

PyG's sampler needs torch-sparse or pyg-lib (``make accel``) and is left out where there is neither. Both draw ten
neighbours for two hops from 2048 users and as many positive and negative items; ours also builds the operators with
their transposes and the view. Medians after a warm-up. Writes ``results/sampling.csv``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import torch
from graphs import random_graph
from measure import seconds
from steps import write_table
from torch_geometric.data import HeteroData
from torch_geometric.sampler import NeighborSampler, NodeSamplerInput
from torch_geometric.typing import WITH_PYG_LIB, WITH_TORCH_SPARSE

from pyg_mmrec.loader import SubgraphSampler, TripletLoader
from pyg_mmrec.typing import INTERACTS, Reach
from pyg_mmrec.utils import with_operators


def pyg_sampler(data: HeteroData, neighbors: int) -> NeighborSampler:
    """PyG's sampler of users' and items' neighbours."""
    graph = HeteroData()
    graph["user"].num_nodes, graph["item"].num_nodes = data["user"].num_nodes, data["item"].num_nodes
    graph["user", "to", "item"].edge_index = data[INTERACTS].edge_index
    graph["item", "back", "user"].edge_index = data[INTERACTS].edge_index.flip(0)
    return NeighborSampler(graph, num_neighbors=[neighbors, neighbors])


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interactions", type=float, default=1e6)
    parser.add_argument("--neighbors", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    data = with_operators(random_graph(int(args.interactions)))
    batch, generator = next(TripletLoader(data).epoch(0)), torch.Generator().manual_seed(0)
    sampler = SubgraphSampler(Reach(interactions=2), args.neighbors)
    ours = seconds(lambda: sampler(data, batch, generator), args.repeats)
    rows = [{"sampler": "SubgraphSampler, view and operators included", "seconds": ours}]
    if WITH_PYG_LIB or WITH_TORCH_SPARSE:
        theirs = pyg_sampler(data, args.neighbors)
        parts = [(batch.user, "user"), (torch.cat([batch.pos_item, batch.neg_item]), "item")]

        def sample() -> None:
            for node, kind in parts:
                theirs.sample_from_nodes(NodeSamplerInput(input_id=None, node=node, input_type=kind))

        name = f"PyG's NeighborSampler on {'pyg-lib' if WITH_PYG_LIB else 'torch-sparse'}"
        rows.append({"sampler": name, "seconds": seconds(sample, args.repeats)})
    table = pd.DataFrame(rows)
    table["interactions"], table["neighbors"] = int(args.interactions), args.neighbors
    write_table(table, args.results / "sampling.csv")


if __name__ == "__main__":
    main()

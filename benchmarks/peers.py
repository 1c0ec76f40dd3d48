r"""An epoch of LightGCN and a full ranking, beside PyG's and RecBole's LightGCN at equal settings.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/peers.py --recbole PYTHON

Amazon Baby's sizes (19,445 users, 7,050 items, 118,551 train interactions; random, see graphs.py), width 64, 2 layers,
batches of 2048 with one negative each, Adam, 58 steps. Each peer runs in a process of its own; an epoch holds
the drawing of batches and negatives and is the median of ``--epochs`` after one that is left out. PyG's
``torch_geometric.nn.LightGCN`` has no loop of its own: it gets this package's batches on ``edge_index``. ``rank`` finds
the best 20 of all items for all users, their train items masked, in each library's own way; RecBole's grades them too.

RecBole needs older libraries and gets an environment of its own, whose Python ``--recbole`` names:

    python -m venv recbole
    recbole/bin/pip install -c constraints.txt torch
    recbole/bin/pip install "numpy<2" "scipy<1.12" "pandas<2.3" pyyaml tqdm "colorlog==4.7.2" "colorama==0.4.4" \
        psutil tabulate texttable plotly scikit-learn tensorboard thop
    recbole/bin/pip install --no-deps "recbole==1.2.1"

Without ``--recbole`` it is left out. Cornac's LightGCN is not compared: it is written on dgl, a graph
library of its own. Writes ``results/peers.csv``; a ratio is a peer's time over ours.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

NUM_USERS, NUM_ITEMS, NUM_TRAIN, CHANNELS, LAYERS, BATCH, K = 19_445, 7_050, 118_551, 64, 2, 2048, 20
Figures = dict[str, float]


def median(run: Callable[[], object], repeats: int) -> float:
    """Median wall time after one that is left out."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def ours(edges: np.ndarray, epochs: int) -> Figures:
    """This package."""
    import torch
    from speed import epoch

    from pyg_mmrec.models import LightGCN
    from pyg_mmrec.utils import with_operators

    data = with_operators(_graph(edges))
    model = LightGCN.from_data(data, hidden_channels=CHANNELS, num_layers=LAYERS)
    every = torch.arange(NUM_USERS)
    return {"epoch": epoch(model, data, epochs), "rank": median(lambda: model.recommend(data, every, K), epochs)}


def pyg(edges: np.ndarray, epochs: int) -> Figures:
    """PyG's LightGCN on ``edge_index``."""
    import torch
    from torch_geometric.nn import LightGCN

    from pyg_mmrec.loader import TripletLoader

    data = _graph(edges)
    loader = TripletLoader(data, BATCH)
    edge_index = torch.from_numpy(edges) + torch.tensor([[0], [NUM_USERS]])
    both = torch.cat([edge_index, edge_index.flip(0)], dim=1)
    model = LightGCN(NUM_USERS + NUM_ITEMS, CHANNELS, LAYERS)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def run() -> None:
        for user, pos, neg in loader.epoch(0):
            pairs = torch.stack([torch.cat([user, user]), torch.cat([pos, neg]) + NUM_USERS])
            positive, negative = model(both, pairs).chunk(2)
            nodes = torch.cat([user, pos + NUM_USERS, neg + NUM_USERS])
            loss = model.recommendation_loss(positive, negative, node_id=nodes, lambda_reg=1e-4)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return {"epoch": median(run, epochs)}


def recbole(edges: np.ndarray, epochs: int) -> Figures:
    """RecBole's LightGCN by its own trainer."""
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model.general_recommender import LightGCN
    from recbole.trainer import Trainer

    user, item = edges
    with tempfile.TemporaryDirectory() as folder:
        held = np.arange(NUM_USERS), np.zeros(NUM_USERS, dtype=int)  # one item for each user, so that all are ranked
        place = Path(folder, "random")
        place.mkdir()
        for part, columns in (("train", (user, item)), ("valid", held), ("test", held)):
            lines = [f"{u}\t{i}" for u, i in zip(*columns, strict=True)]
            header = "user_id:token\titem_id:token"
            (place / f"random.{part}.inter").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        settings = {
            "data_path": folder,
            "benchmark_filename": ["train", "valid", "test"],
            "embedding_size": CHANNELS,
            "n_layers": LAYERS,
            "reg_weight": 1e-4,
            "train_batch_size": BATCH,
            "eval_batch_size": 1024 * NUM_ITEMS,
            "epochs": 1,
            "use_gpu": False,
            "show_progress": False,
            "state": "ERROR",
            "checkpoint_dir": folder,
            "topk": [K],
            "metrics": ["Recall", "NDCG"],
            "valid_metric": f"Recall@{K}",
        }
        config = Config(model="LightGCN", dataset="random", config_dict=settings)
        train, _, test = data_preparation(config, create_dataset(config))
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        model = LightGCN(config, train.dataset)
        trainer = Trainer(config, model)
        epoch = median(lambda: trainer._train_epoch(train, 0), epochs)
        rank = median(lambda: trainer.evaluate(test, load_best_model=False), epochs)
    return {"epoch": epoch, "rank": rank}


def _graph(edges: np.ndarray):  # type: ignore[no-untyped-def]
    import torch
    from torch_geometric.data import HeteroData

    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = NUM_USERS, NUM_ITEMS
    data["user", "interacts", "item"].edge_index = torch.from_numpy(edges)
    return data


PEERS = {"ours": ours, "PyG": pyg, "RecBole": recbole}


def in_own_process(name: str, python: str, edges: Path, epochs: int, threads: int) -> Figures:
    """What a peer's process prints last."""
    command = [python, str(Path(__file__).resolve()), "--peer", name, "--edges", str(edges), "--epochs", str(epochs)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(  # in the folder of the edges, since RecBole writes its logs where it runs
        command, capture_output=True, text=True, env=environment, cwd=edges.parent, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recbole", help="the Python of an environment with RecBole")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--peer", choices=list(PEERS), help=argparse.SUPPRESS)
    parser.add_argument("--edges", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        figures = PEERS[args.peer](np.load(args.edges), args.epochs)
        sys.stdout.write("\n" + json.dumps(figures) + "\n")
        return
    import pandas as pd
    import torch
    from graphs import random_graph
    from steps import write_table

    torch.set_num_threads(args.threads)
    # A link is not followed, which would lead out of its environment.
    found = args.recbole and os.path.abspath(args.recbole)
    pythons = {"ours": sys.executable, "PyG": sys.executable, "RecBole": found}
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        edges = Path(folder, "edges.npy")
        np.save(edges, random_graph(NUM_TRAIN, NUM_USERS, NUM_ITEMS)["user", "interacts", "item"].edge_index.numpy())
        base: Figures = {}
        for name, python in pythons.items():
            if python is None:
                continue
            figures = in_own_process(name, python, edges, args.epochs, args.threads)
            base = base or figures
            for what, value in figures.items():
                rows.append({"peer": name, "what": what, "seconds": value, "times_ours": value / base[what]})
    write_table(pd.DataFrame(rows), args.results / "peers.csv")


if __name__ == "__main__":
    main()

"""LightGCN of this package, PyG and RecBole: an epoch of training, and the evaluation of all users."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measure import seconds
from peers_data import Workload

REG_WEIGHT = 1e-4


def our_epoch(work: Workload) -> float:
    """An epoch by this package's loader and model."""
    from speed import epoch

    data = work.hetero()
    return epoch(_our_model(work, data), data, work.sizes.repeats, work.sizes.batch_size)


def our_evaluation(work: Workload) -> float:
    """Recall and NDCG of all users by this package's evaluator."""
    from pyg_mmrec.evaluation import Evaluator

    data = work.hetero(held_out=True)
    evaluator, model = Evaluator([f"recall@{work.sizes.k}", f"ndcg@{work.sizes.k}"]), _our_model(work, data)
    return seconds(lambda: evaluator(model, data), work.sizes.repeats)


def pyg_epoch(work: Workload) -> float:
    """An epoch of PyG's LightGCN on ``edge_index``, with this package's batches."""
    import torch
    from torch_geometric.nn import LightGCN

    from pyg_mmrec.loader import TripletLoader

    sizes = work.sizes
    loader = TripletLoader(work.hetero(), sizes.batch_size)
    edge_index = torch.from_numpy(work.train) + torch.tensor([[0], [sizes.num_users]])
    both = torch.cat([edge_index, edge_index.flip(0)], dim=1)
    model = LightGCN(sizes.num_users + sizes.num_items, sizes.hidden_channels, sizes.num_layers)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def run() -> None:
        for user, pos, neg in loader.epoch(0):
            pairs = torch.stack([torch.cat([user, user]), torch.cat([pos, neg]) + sizes.num_users])
            positive, negative = model(both, pairs).chunk(2)
            nodes = torch.cat([user, pos + sizes.num_users, neg + sizes.num_users])
            loss = model.recommendation_loss(positive, negative, node_id=nodes, lambda_reg=REG_WEIGHT)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return seconds(run, sizes.repeats)


def recbole_epoch(work: Workload) -> float:
    """An epoch by RecBole's trainer."""
    with _recbole(work) as (trainer, train, _):
        return seconds(lambda: trainer._train_epoch(train, 0), work.sizes.repeats)


def recbole_evaluation(work: Workload) -> float:
    """Recall and NDCG of all users by RecBole's trainer."""
    with _recbole(work) as (trainer, _, test):
        return seconds(lambda: trainer.evaluate(test, load_best_model=False), work.sizes.repeats)


def _our_model(work: Workload, data):  # type: ignore[no-untyped-def]
    from pyg_mmrec.models import LightGCN

    return LightGCN.from_data(data, hidden_channels=work.sizes.hidden_channels, num_layers=work.sizes.num_layers)


@contextmanager
def _recbole(work: Workload) -> Iterator[tuple[Any, Any, Any]]:
    """RecBole's trainer, train and test data."""
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model.general_recommender import LightGCN
    from recbole.trainer import Trainer

    with tempfile.TemporaryDirectory() as folder:
        _write_inter(work, Path(folder, "random"))
        settings = {
            "data_path": folder,
            "benchmark_filename": ["train", "valid", "test"],
            "embedding_size": work.sizes.hidden_channels,
            "n_layers": work.sizes.num_layers,
            "reg_weight": REG_WEIGHT,
            "train_batch_size": work.sizes.batch_size,
            "eval_batch_size": 1024 * work.sizes.num_items,
            "epochs": 1,
            "use_gpu": False,
            "show_progress": False,
            "state": "ERROR",
            "checkpoint_dir": folder,
            "topk": [work.sizes.k],
            "metrics": ["Recall", "NDCG"],
            "valid_metric": f"Recall@{work.sizes.k}",
        }
        config = Config(model="LightGCN", dataset="random", config_dict=settings)
        train, _, test = data_preparation(config, create_dataset(config))
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        yield Trainer(config, LightGCN(config, train.dataset)), train, test


def _write_inter(work: Workload, folder: Path) -> None:
    """RecBole's files; it wants a validation part, which is not read."""
    folder.mkdir()
    for part, edges in (("train", work.train), ("valid", work.held_out_edges), ("test", work.held_out_edges)):
        lines = ["user_id:token\titem_id:token", *(f"{u}\t{i}" for u, i in zip(*edges, strict=True))]
        (folder / f"{folder.name}.{part}.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")

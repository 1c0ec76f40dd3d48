from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.benchmark import Candidate, compare, format_table, split_hash, summarize, train_one
from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.models import BPRMF, LightGCN, Popularity
from pyg_mmrec.training import Trainer
from pyg_mmrec.typing import INTERACTS

Views = tuple[HeteroData, HeteroData, HeteroData]

SHORT: dict[str, Any] = {
    "max_epochs": 3,
    "batch_size": 64,
    "learning_rate": 0.05,
    "monitor": "recall@5",
    "evaluator": Evaluator(["recall@5", "ndcg@5"]),
    "accelerator": "cpu",
}
SMALL = Candidate(BPRMF, {"hidden_channels": 4})


def test_a_candidate_is_called_after_its_class_or_its_label() -> None:
    assert Candidate(BPRMF).name == "BPRMF"
    assert Candidate(BPRMF, label="factors").name == "factors"


def test_the_hash_tells_splits_apart(tiny_split: Views) -> None:
    train, val, test = tiny_split
    known = split_hash(tiny_split)
    assert len(known) == 16
    assert split_hash((copy.deepcopy(train), copy.deepcopy(val), copy.deepcopy(test))) == known
    assert split_hash((train, test, val)) != known
    moved = copy.copy(val)
    moved[INTERACTS].edge_label_index = val[INTERACTS].edge_label_index[:, 1:]
    assert split_hash((train, moved, test)) != known


def test_the_hash_does_not_run_parts_together(tiny_split: Views) -> None:
    some, none = copy.copy(tiny_split[0]), copy.copy(tiny_split[0])
    none[INTERACTS].edge_label_index = some[INTERACTS].edge_label_index[:, :0]
    assert split_hash((some, none, none)) != split_hash((none, some, none))


def test_a_run_is_what_the_trainer_does(tiny_split: Views) -> None:
    model, row = train_one(SMALL, tiny_split, seed=3, **SHORT)
    torch.manual_seed(3)
    expected = BPRMF.from_data(tiny_split[0], hidden_channels=4)
    result = Trainer(**SHORT, seed=3).fit(expected, *tiny_split)
    for name, weight in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight)
    assert row["model"] == "BPRMF"
    assert (row["seed"], row["best_epoch"], row["num_epochs"]) == (3, result.best_epoch, 3)
    for metric in ("recall@5", "ndcg@5"):
        assert row[f"val_{metric}"] == result.validation[metric]
        assert row[f"test_{metric}"] == result.test[metric]


def test_the_seed_decides_a_run(tiny_split: Views) -> None:
    first, again, other = (train_one(SMALL, tiny_split, seed, **SHORT)[0].state_dict() for seed in (0, 0, 1))
    assert torch.equal(first["user_emb.weight"], again["user_emb.weight"])
    assert not torch.equal(first["user_emb.weight"], other["user_emb.weight"])


def test_a_candidate_may_train_otherwise(tiny_split: Views) -> None:
    _, row = train_one(Candidate(BPRMF, trainer_args={"max_epochs": 1}), tiny_split, 0, **SHORT)
    assert row["num_epochs"] == 1


def test_a_run_folder_is_written_and_resumed(tiny_split: Views, tmp_path: Path) -> None:
    _, row = train_one(SMALL, tiny_split, 0, run_dir=tmp_path, **SHORT)
    _, again = train_one(SMALL, tiny_split, 0, run_dir=tmp_path, resume=True, **SHORT)
    assert (tmp_path / "model" / "model.safetensors").is_file()
    assert again == row


def test_a_comparison_has_a_row_for_each_model_and_seed(tiny_split: Views) -> None:
    candidates = [Popularity, BPRMF, LightGCN]
    runs, models = compare([Candidate(cls) for cls in candidates], tiny_split, [4, 0], **SHORT)
    pairs = list(zip(runs["model"], runs["seed"], strict=True))
    assert pairs == [("Popularity", 4), ("BPRMF", 4), ("BPRMF", 0), ("LightGCN", 4), ("LightGCN", 0)]
    for cls in candidates:  # the models are those of the first seed
        held_out = tiny_split[2]
        row = runs[(runs["model"] == cls.__name__) & (runs["seed"] == 4)].iloc[0]
        assert SHORT["evaluator"](models[cls.__name__], held_out)["recall@5"] == row["test_recall@5"]


def test_a_comparison_says_which_run_failed(tiny_split: Views) -> None:
    diverging = Candidate(BPRMF, label="steep", trainer_args={"learning_rate": 1e30})
    with pytest.raises(FloatingPointError, match=r"^steep, seed 3: loss term "):
        compare([Candidate(Popularity), diverging], tiny_split, [3], **SHORT)


def test_the_same_class_may_compete_under_labels(tiny_split: Views) -> None:
    candidates = [Candidate(BPRMF, {"hidden_channels": d}, label=f"d={d}") for d in (2, 4)]
    runs, models = compare(candidates, tiny_split, [0], **SHORT)
    assert list(runs["model"]) == ["d=2", "d=4"]
    assert models["d=4"].hidden_channels == 4


@pytest.mark.parametrize(
    ("candidates", "seeds", "message"),
    [
        ([], [0], "at least one candidate and one seed"),
        ([SMALL], [], "at least one candidate and one seed"),
        ([SMALL, SMALL], [0], r"different names, give labels \(got BPRMF, BPRMF\)"),
        ([SMALL], [1, 2, 1], r"'seeds' must differ \(got 1, 2, 1\)"),
    ],
)
def test_what_cannot_be_compared(
    tiny_split: Views, candidates: list[Candidate], seeds: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        compare(candidates, tiny_split, seeds)


@pytest.fixture
def runs() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "model": ["B", "B", "B", "A"],
            "seed": [0, 1, 2, 0],
            "num_epochs": [10, 12, 14, 0],
            "seconds": [1.0, 2.0, 6.0, 0.0],
            "val_recall@20": [0.9, 0.9, 0.9, 0.9],
            "test_recall@20": [0.1, 0.2, 0.4, 0.25],
        }
    )


def test_a_summary_holds_means_and_sample_deviations(runs: pd.DataFrame) -> None:
    table = summarize(runs, ["recall@20"])
    assert list(table.index) == ["B", "A"]
    values = np.array([0.1, 0.2, 0.4])
    assert table.loc["B", "recall@20"] == pytest.approx(values.sum() / 3)
    assert table.loc["B", "recall@20_std"] == pytest.approx(np.sqrt(((values - values.mean()) ** 2).sum() / 2))
    assert table.loc["A", "recall@20"] == 0.25
    assert np.isnan(table.loc["A", "recall@20_std"])
    assert table.loc["B", ["seeds", "epochs", "seconds"]].tolist() == [3, 12, 3]


def test_the_table_marks_the_best(runs: pd.DataFrame) -> None:
    lines = format_table(summarize(runs, ["recall@20"]), ["recall@20"]).splitlines()
    assert lines[0].split() == ["recall@20", "seeds", "epochs", "seconds"]
    assert lines[1].split() == ["B", "0.2333", "±", "0.1528", "3", "12", "3.0"]
    assert lines[2].split() == ["A", "0.2500*", "1", "0", "0.0"]

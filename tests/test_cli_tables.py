from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyg_mmrec.cli import main
from pyg_mmrec.utils import Ids

NUM_USERS, NUM_ITEMS = 24, 26


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on tables with ids of their own; not to be changed."""
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    rows = [(f"u{user}", 500 + item) for user in range(NUM_USERS) for item in rng.permutation(NUM_ITEMS)[:5]]
    sales = pd.DataFrame(rows, columns=["buyer", "product_id"]).assign(time=range(len(rows)))
    sales.to_csv(folder / "sales.csv", index=False)
    items = pd.DataFrame({"product_id": 500 + np.arange(NUM_ITEMS)})
    for n in range(3):
        items[f"t{n}"] = rng.normal(size=NUM_ITEMS)
    items.to_csv(folder / "items.csv", index=False)
    files = ["--dataset.interactions", str(folder / "sales.csv"), "--dataset.items", str(folder / "items.csv")]
    options = ["--dataset.columns", "{user: buyer}", "--dataset.features", "{text: t}"]
    short = ["--trainer.max_epochs", "2", "--trainer.accelerator", "cpu", "--trainer.progress", "false"]
    names = ["--model", "VBPR", "--dataset", "TableDataset"]
    main(["train", *names, *files, *options, *short, "--run_dir", str(folder / "run")])
    return folder / "run"


@pytest.fixture
def recommend(run: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., pd.DataFrame]:
    def call(*argv: str) -> pd.DataFrame:
        capsys.readouterr()
        main(["recommend", str(run), *argv])
        return pd.read_csv(io.StringIO(capsys.readouterr().out))

    return call


def test_train_writes_the_ids_beside_the_model(run: Path) -> None:
    ids = Ids.load(run / "model")
    assert ids.sizes() == (NUM_USERS, NUM_ITEMS)
    assert ids.of("item", [0]) == [500]
    assert set(json.loads((run / "model" / "ids.json").read_text())) == {"user", "item"}


def test_recommend_speaks_the_tables_ids(run: Path, recommend: Callable[..., pd.DataFrame]) -> None:
    table = recommend("--users", "u7", "u3", "--k", "3")
    assert table["user"].tolist() == ["u7"] * 3 + ["u3"] * 3
    assert table["item"].between(500, 500 + NUM_ITEMS - 1).all()
    bought = pd.read_csv(run.parent / "sales.csv")
    every = recommend("--k", "3")
    assert every["user"].unique().tolist() == [f"u{user}" for user in range(NUM_USERS)]
    merged = every.merge(bought, left_on=["user", "item"], right_on=["buyer", "product_id"])
    assert len(merged) < len(every) / 2  # held-out ones at most


def test_unknown_users_get_the_fallback(
    recommend: Callable[..., pd.DataFrame], failure: Callable[..., str], run: Path
) -> None:
    table = recommend("--users", "u3", "nobody", "--k", "2", "--fallback", "popular")
    assert table["user"].tolist() == ["u3", "u3", "nobody", "nobody"]
    known = recommend("--users", "u3", "--k", "2")
    assert table["item"].tolist()[:2] == known["item"].tolist()
    assert table["score"].tolist()[2] >= table["score"].tolist()[3] >= 1
    assert len(recommend("--users", "nobody", "--k", "2", "--fallback", "recent")) == 2
    assert "there is no user 'u33'; did you mean 'u3" in failure("recommend", run, "--users", "u33")

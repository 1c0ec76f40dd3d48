from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from filelock import FileLock
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models import BPRMF
from pyg_mmrec.retrieval import Retriever, recommendation_tables, write_recommendations
from pyg_mmrec.utils import Ids, popular_items

FORMATS = ["csv", "parquet"]


@pytest.fixture
def retriever(tiny_data: HeteroData) -> Retriever:
    torch.manual_seed(0)
    return Retriever(BPRMF.from_data(tiny_data), tiny_data, block_size=6)


def read(path: Path) -> pd.DataFrame:
    if path.suffix == ".csv":
        return pd.read_csv(path, dtype={"rank": "int32", "score": "float32"})
    pytest.importorskip("pyarrow")
    return pd.read_parquet(path)


@pytest.mark.parametrize("end", FORMATS)
def test_files_hold_what_recommend_gives(retriever: Retriever, tmp_path: Path, end: str) -> None:
    path = tmp_path / f"recs.{end}"
    write_recommendations(retriever, path, k=4, part_size=15)
    table = read(path)
    scores, items = retriever(torch.arange(40), 4)
    assert list(table.columns) == ["user", "rank", "item", "score"]
    assert table["user"].tolist() == [user for user in range(40) for _ in range(4)]
    assert table["rank"].tolist() == [1, 2, 3, 4] * 40
    assert table["item"].tolist() == items.flatten().tolist()
    assert torch.allclose(torch.tensor(table["score"].to_numpy()), scores.flatten())
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("end", FORMATS)
def test_own_ids_and_some_users(retriever: Retriever, tiny_data: HeteroData, tmp_path: Path, end: str) -> None:
    ids = Ids([f"u,{n}" for n in range(40)], [1000 + n for n in range(30)])
    named = Retriever(retriever.model, tiny_data, ids)
    write_recommendations(named, tmp_path / f"r.{end}", torch.tensor([7, 2]), k=30)
    table = read(tmp_path / f"r.{end}")
    assert list(dict.fromkeys(table["user"])) == ["u,7", "u,2"]
    _, items = retriever(torch.tensor([7, 2]), 30)
    assert table["item"].tolist() == (items[items >= 0] + 1000).tolist()  # seen items have no row


@pytest.mark.parametrize("end", FORMATS)
def test_seen_items_and_no_users(retriever: Retriever, tmp_path: Path, end: str) -> None:
    write_recommendations(retriever, tmp_path / f"all.{end}", k=30, exclude_seen=False)
    assert len(read(tmp_path / f"all.{end}")) == 40 * 30
    write_recommendations(retriever, tmp_path / f"none.{end}", torch.tensor([], dtype=torch.long))
    assert list(read(tmp_path / f"none.{end}").columns) == ["user", "rank", "item", "score"]


@pytest.mark.parametrize("end", FORMATS)
def test_a_stopped_job_goes_on(retriever: Retriever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    path, original, asked = tmp_path / f"recs.{end}", Retriever.__call__, []

    def counting(self: Retriever, user: Tensor, *args: Any) -> Any:
        asked.extend(user.tolist())
        if len(asked) > 24:
            raise KeyboardInterrupt
        return original(self, user, *args)

    path.write_text("before")
    monkeypatch.setattr(Retriever, "__call__", counting)
    with pytest.raises(KeyboardInterrupt):
        write_recommendations(retriever, path, k=3, part_size=12)
    assert path.read_text() == "before"
    parts = tmp_path / f".recs.{end}.parts"
    assert sorted(entry.name for entry in parts.iterdir() if entry.name[0] != ".") == ["000000", "000001", "job.json"]
    monkeypatch.setattr(Retriever, "__call__", original)
    made = []
    monkeypatch.setattr(
        "pyg_mmrec.retrieval.table.recommendation_tables",
        lambda *args: made.append(args[1].tolist()) or recommendation_tables(*args),
    )
    write_recommendations(retriever, path, k=3, part_size=12)
    assert [users[0] for users in made] == [24, 36]
    assert read(path)["user"].tolist() == [user for user in range(40) for _ in range(3)]
    assert not parts.exists()


def test_parts_of_another_job_are_not_used(
    retriever: Retriever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "recs.csv"

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pyg_mmrec.retrieval.table._join_csv", stop)
        with pytest.raises(KeyboardInterrupt):
            write_recommendations(retriever, path, k=3)
    assert (tmp_path / ".recs.csv.parts" / "000000").exists()
    torch.nn.init.normal_(retriever.model.user_emb.weight)  # type: ignore[attr-defined]
    write_recommendations(retriever, path, k=3)
    assert read(path)["item"].tolist() == retriever(torch.arange(40), 3)[1].flatten().tolist()


KILLED = """
import sys, time, torch
from torch_geometric.data import HeteroData
from pyg_mmrec.models import BPRMF
from pyg_mmrec.retrieval import Retriever, write_recommendations

class Slow(Retriever):
    def __call__(self, *args):
        time.sleep(0.05)
        return super().__call__(*args)

data = HeteroData()
data["user"].num_nodes, data["item"].num_nodes = 2000, 10
data["user", "interacts", "item"].edge_index = torch.tensor([[0], [0]])
write_recommendations(Slow(BPRMF.from_data(data), data, block_size=10), sys.argv[1], k=5, part_size=20)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_job_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "recs.csv"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)])
    parts = tmp_path / ".recs.csv.parts"
    while not (parts / "000001").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not path.exists()
    assert parts.exists()


def test_bad_arguments(retriever: Retriever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"'k' must lie in 1..30"):
        write_recommendations(retriever, tmp_path / "r.csv", k=31)
    with pytest.raises(ValueError, match="'part_size' must be positive"):
        write_recommendations(retriever, tmp_path / "r.csv", part_size=0)
    with pytest.raises(FileNotFoundError, match=r"no/r.csv' is not there: make it first"):
        write_recommendations(retriever, tmp_path / "no" / "r.csv")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'pyg-mmrec\[tables\]', or write a .csv file"):
        write_recommendations(retriever, tmp_path / "r.parquet")
    assert list(tmp_path.iterdir()) == []


def test_one_process_writes_a_file_at_a_time(retriever: Retriever, tmp_path: Path) -> None:
    parts = tmp_path / ".r.csv.parts"
    parts.mkdir()
    with FileLock(parts / ".lock"), pytest.raises(ValueError, match=r"r\.csv' is being written by another process"):
        write_recommendations(retriever, tmp_path / "r.csv")


def test_tables_come_block_by_block(retriever: Retriever) -> None:
    tables = list(recommendation_tables(retriever, torch.arange(20), k=2))
    assert [len(table) for table in tables] == [12, 12, 12, 4]


@pytest.mark.parametrize("end", [".csv", ".parquet"])
def test_users_of_whom_nothing_is_known_get_popular_items(tiny_data: HeteroData, tmp_path: Path, end: str) -> None:
    kept = tiny_data["user", "interacts", "item"].edge_index[0] != 5
    tiny_data["user", "interacts", "item"].edge_index = tiny_data["user", "interacts", "item"].edge_index[:, kept]
    model, user = BPRMF(40, 30), torch.tensor([3, -1, 5])
    retriever = Retriever(model, tiny_data, block_size=2, fallback="popular")
    count, item = popular_items(tiny_data, 4)
    scores, items = retriever(user, 4, exclude_seen=False)
    for row in (1, 2):
        assert torch.equal(scores[row], count)
        assert torch.equal(items[row], item)
    torch.testing.assert_close(scores[0], Retriever(model, tiny_data)(user[:1], 4, exclude_seen=False)[0][0])
    write_recommendations(retriever, tmp_path / f"a{end}", user, 4, False, part_size=2, names=["ann", "bob", "eve"])
    table = read(tmp_path / f"a{end}")
    assert table["user"].tolist() == [name for name in ("ann", "bob", "eve") for _ in range(4)]
    assert table["item"].tolist() == items.flatten().tolist()
    with pytest.raises(ValueError, match=r"^'names' is missing: "):
        next(recommendation_tables(retriever, user))
    with pytest.raises(ValueError, match=r"^'names' must have one for each of the 3 users \(got 1\)$"):
        next(recommendation_tables(retriever, user, names=["ann"]))
    with pytest.raises(ValueError, match=r"^'user' must lie in 0\.\.39 \(got -1\.\.5\)$"):
        Retriever(model, tiny_data)(user)

from __future__ import annotations

import io
import json
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from torch import Tensor

import pyg_mmrec
from pyg_mmrec.benchmark import prepare, runner
from pyg_mmrec.cli import main
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.loader import TripletLoader
from pyg_mmrec.models import FREEDOM, Recommender
from pyg_mmrec.transforms import ModalKNNGraph, RandomSplit
from pyg_mmrec.typing import Triplets
from tests.models.test_meta import EXPORTED

NUM_USERS, NUM_ITEMS = 60, 40
MODELS = ", ".join(EXPORTED)
COMMANDS = ("train", "evaluate", "recommend", "export", "serve", "compare", "benchmark", "report", "datasets")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags of a small shop."""
    root = tmp_path_factory.mktemp("shop")
    sizes = ["--dataset.num_users", str(NUM_USERS), "--dataset.num_items", str(NUM_ITEMS)]
    return ["--dataset", "AttributeShop", "--dataset.root", str(root), "--dataset.interactions_per_user", "8", *sizes]


@pytest.fixture(scope="module")
def short() -> list[str]:
    """Flags of a short training on the CPU."""
    return ["--trainer.max_epochs", "3", "--trainer.batch_size", "128", "--trainer.accelerator", "cpu"]


@pytest.fixture(scope="module")
def trained(data: list[str], short: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    model = ["--model", "FREEDOM", "--model.hidden_channels", "8", "--graph.k", "3"]
    main(["train", *model, *data, *short, "--run_dir", str(folder)])
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must succeed without a word on standard error; returns what it printed."""

    def call(*argv: str | Path) -> str:
        capsys.readouterr()
        main([str(token) for token in argv])
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return call


def weights(folder: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(folder / "model" / "model.safetensors")


def assert_same_weights(first: Path, second: Path) -> None:
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    for name, weight in one.items():
        assert torch.equal(weight, other[name]), name


def result(folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return row


def write_dataset(folder: Path, with_labels: bool = True) -> list[str]:
    """A tiny data set in files, users 0..11 but 5 without interactions; returns its flags."""
    generator = np.random.default_rng(0)
    rows = ["userID\titemID\tx_label"] if with_labels else ["userID\titemID"]
    for user in [user for user in range(12) if user != 5]:
        for item, label in zip(generator.permutation(20)[:7], "0000012", strict=True):
            rows.append(f"{user}\t{item}\t{label}" if with_labels else f"{user}\t{item}")
    (folder / "tiny").mkdir()
    (folder / "tiny" / "tiny.inter").write_text("\n".join(rows))
    np.save(folder / "tiny" / "text_feat.npy", generator.normal(size=(20, 4)).astype(np.float32))
    return ["--dataset", "MMRecDataset", "--dataset.root", str(folder), "--dataset.name", "tiny"]


# train


def test_train_leaves_a_run_folder(trained: Path) -> None:
    names = {path.name for path in trained.iterdir() if not path.name.startswith(("events.", ".lock"))}
    expected = {"config.yaml", "environment.json", "history.csv", "last.ckpt", "metrics.json", "model", "result.json"}
    assert names == expected | {"settings.json", "split.json"}
    row, metrics = result(trained), json.loads((trained / "metrics.json").read_text())
    history = pd.read_csv(trained / "history.csv")
    assert (row["model"], row["seed"], row["num_epochs"], row["protocol"]) == ("FREEDOM", 0, 3, "random")
    assert len(history) == 3
    assert row["best_epoch"] == history["recall@20"].idxmax()
    assert row["val_recall@20"] == history["recall@20"].max()
    assert {name: row[f"test_{name}"] for name in metrics["test"]} == metrics["test"]
    assert row["split_hash"] == json.loads((trained / "split.json").read_text())["split_hash"]


def test_train_prints_the_result(data: list[str], short: list[str], tmp_path: Path, command: Any) -> None:
    out = command("train", "--model", "BPRMF", *data, *short, "--run_dir", tmp_path).splitlines()
    row = result(tmp_path)
    assert out[0].endswith(f"(best epoch {row['best_epoch']} of 3)")
    name, validation, test = next(line for line in out if "ndcg@20" in line).split()
    assert (name, validation, test) == ("ndcg@20", f"{row['val_ndcg@20']:.4f}", f"{row['test_ndcg@20']:.4f}")
    assert out[-1] == f"run folder: {tmp_path}"


def test_the_run_folder_has_a_name_by_default(
    data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    out = command("train", "--model", "Popularity", *data, "--trainer.seed", "7")
    assert "run folder: runs/AttributeShop-Popularity-7" in out
    assert (tmp_path / "runs" / "AttributeShop-Popularity-7" / "result.json").is_file()


def test_a_published_split_is_used_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = write_dataset(tmp_path)
    main(["train", "--model", "VBPR", *flags, "--trainer.max_epochs", "1", "--run_dir", str(tmp_path / "run")])
    warnings = [line for line in capsys.readouterr().err.splitlines() if "tiny.inter" in line]
    assert warnings == ["pyg-mmrec: warning: tiny.inter: 1 of 12 users (ids 0..11) have no interaction"]
    assert result(tmp_path / "run")["protocol"] == "mmrec"
    assert json.loads((tmp_path / "run" / "model" / "config.json").read_text())["init_args"]["in_channels"] == {
        "text": 4
    }


def test_categories_are_counted_in_the_data(data: list[str], short: list[str], tmp_path: Path, command: Any) -> None:
    flags = ["--model.mlp_channels", "8", "--model.num_layers", "2"]
    command("train", "--model", "DeepFM", *flags, *data, *short, "--run_dir", tmp_path)
    init_args = json.loads((tmp_path / "model" / "config.json").read_text())["init_args"]
    assert (init_args["num_categories"], init_args["mlp_channels"]) == (6, 8)
    out = command("evaluate", tmp_path, "--evaluator.metrics", "[recall@20]")
    assert float(out.split()[1]) == pytest.approx(result(tmp_path)["test_recall@20"], abs=1e-6)


def test_a_file_says_the_same_as_flags(trained: Path, data: list[str], tmp_path: Path, command: Any) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        f"""
model:
  class_path: FREEDOM
  init_args:
    hidden_channels: 8
dataset:
  class_path: AttributeShop
  init_args:
    root: {data[3]}
    num_users: {NUM_USERS}
    num_items: {NUM_ITEMS}
    interactions_per_user: 8
graph:
  k: 3
trainer:
  max_epochs: 1
  batch_size: 128
  accelerator: cpu
"""
    )
    command("train", "--config", file, "--trainer.max_epochs", "3", "--run_dir", tmp_path / "run")
    assert_same_weights(tmp_path / "run", trained)
    assert result(tmp_path / "run") | {"seconds": 0} == result(trained) | {"seconds": 0}


def test_the_written_configuration_repeats_the_run(trained: Path, tmp_path: Path, command: Any) -> None:
    command("train", "--config", trained / "config.yaml", "--run_dir", tmp_path)
    assert_same_weights(tmp_path, trained)


def test_a_printed_configuration_repeats_the_run(
    trained: Path, data: list[str], short: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", "FREEDOM", "--model.hidden_channels", "8", "--graph.k", "3"]
    with pytest.raises(SystemExit) as ended:
        main(["train", *model, *data, *short, "--print_config"])
    assert not ended.value.code
    (tmp_path / "config.yaml").write_text(capsys.readouterr().out)
    main(["train", "--config", str(tmp_path / "config.yaml"), "--run_dir", str(tmp_path / "run")])
    assert_same_weights(tmp_path / "run", trained)


def test_users_are_linked_by_common_items(data: list[str], short: list[str], tmp_path: Path, command: Any) -> None:
    model = ["--model", "DualGNN", "--model.hidden_channels", "8"]
    for k in ("1", "5"):
        command("train", *model, *data, *short, "--cooccurrence.k", k, "--run_dir", tmp_path / k)
        out = command("evaluate", tmp_path / k, "--evaluator.metrics", "[ndcg@20]")  # with the graph that the run had
        assert float(out.split()[1]) == pytest.approx(result(tmp_path / k)["test_ndcg@20"], abs=1e-6)
    assert result(tmp_path / "1")["test_ndcg@20"] != result(tmp_path / "5")["test_ndcg@20"]
    assert command("recommend", tmp_path / "5", "--users", "3").count("\n") == 11


def test_the_scheduler_sets_the_learning_rate(data: list[str], short: list[str], tmp_path: Path, command: Any) -> None:
    scheduler = ["--trainer.scheduler", "StepLR", "--trainer.scheduler.step_size", "1"]
    off = [*scheduler, "--trainer.scheduler.gamma", "0.0"]
    command("train", "--model", "BPRMF", *data, *short, *off, "--run_dir", tmp_path)
    recall = pd.read_csv(tmp_path / "history.csv")["ndcg@20"]
    assert recall.nunique() == 1  # nothing moves after the first epoch
    assert result(tmp_path)["best_epoch"] == 0


def interrupt_in(monkeypatch: pytest.MonkeyPatch, epoch: int, step: int) -> None:
    """A Ctrl-C while a batch of the training is made."""
    original = TripletLoader.epoch

    def batches(self: TripletLoader, number: int, start: int = 0) -> Iterator[Triplets]:
        for i, batch in enumerate(original(self, number, start), start=start):
            if (number, i) == (epoch, step):
                signal.raise_signal(signal.SIGINT)
            yield batch

    monkeypatch.setattr(TripletLoader, "epoch", batches)


def test_a_stopped_run_says_how_to_go_on_and_ends_the_same(
    trained: Path, data: list[str], short: list[str], tmp_path: Path, failure: Any, command: Any
) -> None:
    folder = tmp_path / "stopped here"
    model = ["--model", "FREEDOM", "--model.hidden_channels", "8", "--graph.k", "3"]
    with pytest.MonkeyPatch.context() as patch:
        interrupt_in(patch, epoch=1, step=1)
        line = failure("train", *model, *data, *short, "--run_dir", folder)
    assert line.startswith("stopped; go on with: pyg-mmrec train ")
    assert not (folder / "result.json").exists()
    assert len(pd.read_csv(folder / "history.csv")) == 1
    assert "go on with 'pyg-mmrec train ... --resume'" in failure("evaluate", folder)
    command(*shlex.split(line.partition("pyg-mmrec ")[2]))
    assert_same_weights(folder, trained)
    assert result(folder) | {"seconds": 0} == result(trained) | {"seconds": 0}


def test_a_finished_run_may_be_resumed(trained: Path, run: Path, command: Any) -> None:
    command("train", "--config", run / "config.yaml", "--run_dir", run, "--resume")
    assert_same_weights(run, trained)
    assert result(run) == result(trained)


def test_a_run_goes_on_with_its_own_interactions_only(run: Path, failure: Any) -> None:
    again = ["train", "--config", run / "config.yaml", "--run_dir", run, "--resume"]
    line = failure(*again, "--split", "RandomSplit", "--split.seed", "1")
    assert f"not those of the run in '{run}'" in line


@pytest.mark.slow
def test_two_processes_print_one_result(data: list[str], short: list[str], tmp_path: Path, command: Any) -> None:
    flags = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--run_dir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pyg_mmrec.cli", "train", "--model", "BPRMF", *data, *short, *flags],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert done.stdout.count("ndcg@20") == done.stdout.count("run folder") == 1
    lines = command("evaluate", tmp_path).splitlines()
    assert f"{result(tmp_path)['test_ndcg@20']:.6f}" in " ".join(lines)


def test_a_stop_before_training_is_one_line(
    data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Any
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pyg_mmrec.cli.compare.compare", stop)
    monkeypatch.setattr("pyg_mmrec.cli.setup.prepare", stop)
    assert failure("train", "--model", "BPRMF", *data, "--run_dir", tmp_path) == "stopped"
    assert failure("compare", *data, "--models", "BPRMF") == "stopped"


# evaluate, recommend


@pytest.mark.parametrize("part", ["val", "test"])
def test_evaluate_gives_the_numbers_of_the_run(trained: Path, part: str, command: Any) -> None:
    lines = command("evaluate", trained, "--part", part).splitlines()
    row = result(trained)
    assert dict(line.split() for line in lines) == {
        name.removeprefix(f"{part}_"): f"{value:.6f}" for name, value in row.items() if name.startswith(f"{part}_")
    }


def test_evaluate_takes_other_metrics(trained: Path, command: Any) -> None:
    lines = command("evaluate", trained, "--evaluator.metrics", "[hit@1, coverage@5]").splitlines()
    assert [line.split()[0] for line in lines] == ["hit@1", "coverage@5"]
    assert 0 < float(lines[1].split()[1]) <= 1


def test_recommend_never_names_a_seen_item(trained: Path, data: list[str], command: Any) -> None:
    table = pd.read_csv(io.StringIO(command("recommend", trained, "--k", "5")))
    assert list(table.columns) == ["user", "rank", "item", "score"]
    assert table["user"].tolist() == [user for user in range(NUM_USERS) for _ in range(5)]
    assert table["rank"].tolist() == [1, 2, 3, 4, 5] * NUM_USERS
    assert table["item"].between(0, NUM_ITEMS - 1).all()
    assert not table.duplicated(["user", "item"]).any()
    assert (table.groupby("user")["score"].diff().dropna() <= 0).all()

    shop = AttributeShop(data[3], NUM_USERS, NUM_ITEMS, interactions_per_user=8)[0]
    view, _, _ = prepare(shop, [FREEDOM], RandomSplit(), ModalKNNGraph(k=3))
    seen = set(map(tuple, view["user", "interacts", "item"].edge_index.t().tolist()))
    assert not seen & set(zip(table["user"], table["item"], strict=True))
    _, items = Recommender.from_pretrained(trained / "model").recommend(view, torch.arange(NUM_USERS), 5)
    assert table["item"].tolist() == items.flatten().tolist()


def test_recommend_takes_users_in_order(trained: Path, command: Any) -> None:
    table = pd.read_csv(io.StringIO(command("recommend", trained, "--users", "9", "2", "--k", "2")))
    assert table["user"].tolist() == [9, 9, 2, 2]


def test_recommend_names_fewer_items_than_k_where_the_rest_is_seen(trained: Path, command: Any) -> None:
    table = pd.read_csv(io.StringIO(command("recommend", trained, "--k", str(NUM_ITEMS))))
    every = pd.read_csv(io.StringIO(command("recommend", trained, "--k", str(NUM_ITEMS), "--include_seen")))
    assert len(every) == NUM_USERS * NUM_ITEMS
    assert (table.groupby("user").size() < NUM_ITEMS).all()


def test_recommend_writes_a_file(trained: Path, tmp_path: Path, command: Any) -> None:
    printed = command("recommend", trained, "--users", "1")
    assert command("recommend", trained, "--users", "1", "--output", tmp_path / "out.csv") == ""
    assert (tmp_path / "out.csv").read_text() == printed


def test_a_reader_may_stop_early(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = os.pipe()
    os.close(source)
    with os.fdopen(target, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        main(["recommend", str(trained), "--k", "20"])


# compare, datasets


def test_compare_prints_a_table_and_writes_a_row_for_each_run(
    data: list[str], short: list[str], tmp_path: Path, command: Any
) -> None:
    flags = ["--models", "Popularity", "FREEDOM", "--seeds", "0", "1", "--graph.k", "3", "--show", "recall@20"]
    arguments = ["--init_args", "{FREEDOM: {hidden_channels: 8}}", "--output", str(tmp_path / "runs.csv")]
    out = command("compare", *data, *short, *flags, *arguments).splitlines()
    runs = pd.read_csv(tmp_path / "runs.csv")
    assert list(zip(runs["model"], runs["seed"], strict=True)) == [("Popularity", 0), ("FREEDOM", 0), ("FREEDOM", 1)]
    assert set(runs["protocol"]) == {"random"}
    freedom = runs[runs["model"] == "FREEDOM"]["test_recall@20"]
    assert out[0].split() == ["recall@20", "seeds", "epochs", "seconds"]
    cells = {line.split()[0]: line for line in out[1:]}
    assert f"{runs['test_recall@20'][0]:.4f}" in cells["Popularity"]
    assert f"{freedom.mean():.4f} ± {freedom.std():.4f}" in cells["FREEDOM"]


def test_a_comparison_that_is_stopped_keeps_finished_runs(
    data: list[str], short: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Any
) -> None:
    train, calls = runner.train_one, []

    def second_stops(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*args, **kwargs)

    monkeypatch.setattr(runner, "train_one", second_stops)
    flags = ["--models", "BPRMF", "--seeds", "3", "4", "--output", str(tmp_path / "runs.csv")]
    assert failure("compare", *data, *short, *flags) == "stopped"
    runs = pd.read_csv(tmp_path / "runs.csv")
    assert runs[["model", "seed", "protocol"]].to_numpy().tolist() == [["BPRMF", 3, "random"]]
    assert [path.name for path in tmp_path.iterdir()] == ["runs.csv"]


def test_compare_writes_into_a_pipe(data: list[str], short: list[str]) -> None:
    flags = ["--models", "BPRMF", "--seeds", "0", "1", "--output", "/dev/stdout"]
    command = [sys.executable, "-m", "pyg_mmrec.cli", "compare", *data, *short, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.count("BPRMF,") == 2
    assert done.stdout.count("model,seed,") == 1


def test_compare_tests_all_pairs(data: list[str], short: list[str], command: Any) -> None:
    flags = ["--models", "Popularity", "BPRMF", "LightGCN", "--seeds", "0", "1", "--tests", "hit@5"]
    out = command("compare", *data, *short, *flags)
    assert "\nhit@5 by user, means over seeds; " in out
    table = out.split("95 % intervals\n\n")[1].splitlines()
    assert table[0].split() == ["difference", "interval", "t-test", "Wilcoxon", "better/equal/worse"]
    pairs = [re.match(r"(\w+ - \w+) +[+-]0\.\d{4}[* ]? +\[", line) for line in table[1:]]
    found = [match[1] if match else None for match in pairs]
    assert found == ["Popularity - BPRMF", "Popularity - LightGCN", "BPRMF - LightGCN"]


def test_compare_trains_as_train_does(
    trained: Path, data: list[str], short: list[str], tmp_path: Path, command: Any
) -> None:
    flags = ["--models", "FREEDOM", "--seeds", "0", "--graph.k", "3", "--init_args", "{FREEDOM: {hidden_channels: 8}}"]
    command("compare", *data, *short, *flags, "--output", tmp_path / "runs.csv")
    row, single = pd.read_csv(tmp_path / "runs.csv").iloc[0], result(trained)
    assert row["split_hash"] == single["split_hash"]
    for name in ("best_epoch", "val_recall@20", "test_recall@20", "test_ndcg@20"):
        assert row[name] == pytest.approx(single[name], rel=1e-14)  # pandas before version 3 reads other last digits


def test_datasets_lists_them(command: Any) -> None:
    lines = command("datasets").splitlines()
    names = ["AmazonReviews", "AttributeShop", "MMRecDataset", "PosterMovies", "TableDataset"]
    assert [line.split()[0] for line in lines] == names
    assert all(len(line.split()) > 5 for line in lines)


def test_the_command_keeps_freed_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[None] = []
    monkeypatch.setattr("pyg_mmrec.cli.commands.keep_freed_memory", lambda: calls.append(None))
    main(["datasets"])
    assert len(calls) == 1


def test_datasets_describes_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["datasets", *write_dataset(tmp_path)])
    facts = dict(line.strip().split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert facts == {
        "users": "12",
        "items": "20",
        "interactions": "77",
        "split": "LabelSplit(strict=False): train 55, validation 11, test 11",
        "features": "text 4",
        "item graphs": "none",
    }


def test_datasets_takes_a_split(data: list[str], command: Any) -> None:
    out = command("datasets", *data, "--split", "TemporalSplit", "--split.test", "0.3")
    assert "TemporalSplit(val=0.1, test=0.3, strict=False)" in out


# help and other ways in


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_is_plain(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"] if name else ["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: pyg-mmrec {name}")
    assert not [
        sign for sign in ("``", ":math:", ":class:", "<class", "\\", "known subclasses", "type:") if sign in out
    ]


def test_help_names_groups_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    out = capsys.readouterr().out
    headings = ["model:", "data set:", "split:", "item-item graphs, for the models that read them:", "training:"]
    places = [out.index(f"\n{heading}\n") for heading in [*headings, "evaluation:"]]
    assert places == sorted(places)
    words = " ".join(out.split())
    assert "At most so many epochs (default: 1000). --trainer.patience" in words
    assert "per-epoch graphs and dropout. (default: 0)" in words
    assert f"{MODELS}; its arguments follow as --model.ARGUMENT." in words


def test_help_of_a_model_lists_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "--model.help", "FREEDOM"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "--model.pruning" in out
    assert "--model.num_users" not in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == pyg_mmrec.__version__


def test_python_m(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["pyg-mmrec", "datasets"])
    runpy.run_module("pyg_mmrec.cli", run_name="__main__")
    assert "AttributeShop" in capsys.readouterr().out


OWN_MODEL = """
import torch
from pyg_mmrec.models import BPRMF

class Doubled(BPRMF):
    def __init__(self, num_users, num_items, *, width: int = 4):
        super().__init__(num_users, num_items, hidden_channels=2 * width)
        self.width = width
"""


def test_a_model_of_ones_own_is_named_by_its_import_path(
    data: list[str], short: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Any, failure: Any
) -> None:
    (tmp_path / "own_models.py").write_text(OWN_MODEL)
    (tmp_path / "broken_models.py").write_text("import torch\nraise ValueError('half done')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    model = ["--model", "own_models.Doubled", "--model.width", "3"]
    command("train", *model, *data, *short, "--run_dir", tmp_path / "run")
    assert weights(tmp_path / "run")["user_emb.weight"].shape == (NUM_USERS, 6)
    command("evaluate", tmp_path / "run")
    assert "Doubled has no argument 'widht'; did you mean 'width'?" in failure(
        "train", "--model", "own_models.Doubled", "--model.widht", "3", *data
    )
    line = failure("train", "--model", "broken_models.Model", *data)
    assert line == "cannot import the model 'broken_models.Model': half done"


# bad input: {data}, {run}, {tmp} stand for the flags of the shop, a finished run, an empty folder

TRAIN = "train --model BPRMF {data} --run_dir {tmp}/new --trainer.accelerator cpu "
FREEDOM_ = "train --model FREEDOM {data} --run_dir {tmp}/new --trainer.max_epochs 1 --trainer.accelerator cpu "

BAD = [
    ("", 'expected "subcommand" to be one of {train,evaluate,recommend,export,serve'),
    ("trian", "invalid choice: 'trian'"),
    ("--versoin", "unknown argument --versoin; did you mean '--version'?"),
    # names
    ("train --model FREDOM {data}", "unknown model 'FREDOM'; did you mean 'FREEDOM'?"),
    ("train --model=FREDOM {data}", "unknown model 'FREDOM'; did you mean 'FREEDOM'?"),
    ("train --model Zzz {data}", f"unknown model 'Zzz'; known are {MODELS}"),
    ("train --model AttributeShop {data}", "unknown model 'AttributeShop'"),
    ("train --model torch.nn.Linear {data}", "unknown model 'torch.nn.Linear'"),
    ("train --model pyg_mmrec.models.Nothing {data}", "unknown model 'pyg_mmrec.models.Nothing'"),
    ("train --model Recommender {data}", "unknown model 'Recommender'"),
    ("train --model '' {data}", "unknown model ''"),
    ("train --model= {data}", "unknown model ''"),
    ("train {data} --model", "argument --model: expected one argument"),
    ("train --model.help FREDOM", "unknown model 'FREDOM'; did you mean 'FREEDOM'?"),
    ("train --model BPRMF --dataset AtributeShop", "unknown dataset 'AtributeShop'; did you mean 'AttributeShop'?"),
    ("train --model BPRMF --dataset FREEDOM", "unknown dataset 'FREEDOM'; known are AmazonReviews, AttributeShop, "),
    ("train --model BPRMF --dataset ''", "unknown dataset ''"),
    ("datasets {data} --split RandmSplit", "unknown split 'RandmSplit'; did you mean 'RandomSplit'?"),
    ("compare {data} --models FREDOM", "unknown model 'FREDOM'; did you mean 'FREEDOM'?"),
    ("compare {data} --models BPRMF VBPR --tests coverage@5", "--tests coverage@5 is not a metric of single users: "),
    ("compare {data} --models BPRMF VBPR --tests recal@5", "unknown metric 'recal@5': did you mean 'recall@5'"),
    ("compare {data} --models BPRMF --tests recall@5", "--tests compares models: name two or more in --models"),
    ("compare {data} --models BPRMF --init_args '{BPMF: {}}'", "unknown model 'BPMF'; did you mean 'BPRMF'?"),
    # arguments
    (TRAIN + "--model.hiden_channels 8", "BPRMF has no argument 'hiden_channels'; did you mean 'hidden_channels'?"),
    (TRAIN + "--model.init_args.hiden 8", "BPRMF has no argument 'hiden'; known are hidden_channels, l2_form, l2"),
    (TRAIN + "--model.num_users 8", "BPRMF has no argument 'num_users'; known are"),
    ("train --model PNN {data} --model.num_categories 8", "PNN has no argument 'num_categories'; "),
    (TRAIN + "--dataset.num_user 8", "AttributeShop has no argument 'num_user'; did you mean 'num_users'?"),
    (TRAIN + "--split RandomSplit --split.sed 1", "RandomSplit has no argument 'sed'; did you mean 'seed'?"),
    (TRAIN + "--split.seed 1", "--split.seed needs a split: name one with --split"),
    (TRAIN + "--trainer.max_epoch 3", "unknown argument --trainer.max_epoch 3; did you mean '--trainer.max_epochs'?"),
    (TRAIN + "--graph.kk 3", "unknown argument --graph.kk 3; did you mean '--graph.k'?"),
    (TRAIN + "--rundir x", "unknown argument --rundir x; did you mean '--run_dir'?"),
    (TRAIN + "x", "unknown argument x"),
    ("train {data} --model.hidden_channels 3", "--model.hidden_channels needs a model: name one with --model"),
    ("train --model Popularity {data} --model.width 3", "Popularity has no argument 'width'; known are none"),
    ("evaluate {run} --prt val", "unknown argument --prt val; did you mean '--part'?"),
    ("compare {data} --trainer.seed 3", "unknown argument --trainer.seed 3"),
    (
        "compare {data} --models BPRMF --init_args '{BPRMF: {hiden_channels: 3}}'",
        "BPRMF has no argument 'hiden_channels'; did you mean 'hidden_channels'?",
    ),
    # missing
    ("train {data}", "the following arguments are required: model"),
    ("train --model BPRMF", "the following arguments are required: dataset"),
    ("train --model BPRMF --dataset AttributeShop", "AttributeShop needs --dataset.root"),
    ("datasets --dataset MMRecDataset --dataset.root {tmp}", "MMRecDataset needs --dataset.name"),
    ("evaluate", "the following arguments are required: run_dir"),
    ("recommend {run} --users", "argument --users: expected at least one argument"),
    # types
    (TRAIN + "--trainer.max_epochs x", "'trainer.max_epochs' must be int (got 'x')"),
    (TRAIN + "--trainer.seed x", "'trainer.seed' must be int (got 'x')"),
    (TRAIN + "--trainer.seed 1.5", "'trainer.seed' must be int (got '1.5')"),
    (TRAIN + "--trainer.progress maybe", "'trainer.progress' must be bool (got 'maybe')"),
    (TRAIN + "--trainer.learning_rate nan", "'trainer.learning_rate' must be float (got 'nan')"),
    (TRAIN + "--trainer.scheduler StpLR", "'trainer.scheduler': Expected a dot import path string: StpLR"),
    (TRAIN + "--model.hidden_channels x", "'hidden_channels' must be int (got 'x')"),
    (TRAIN + "--model.l2_form cube", "'l2_form' must be 'squared' or 'norm' (got 'cube')"),
    (TRAIN + "--dataset.num_users many", "'num_users' must be int (got 'many')"),
    (TRAIN + "--graph.modalities image", "'graph.modalities' must be list (got 'image')"),
    (TRAIN + "--graph.modalities [1]", "'graph.modalities' must be str (got '1')"),
    (TRAIN + "--evaluator.metrics recall@20", "'evaluator.metrics' must be list or tuple (got 'recall@20')"),
    (TRAIN + "--evaluator.metrics [1,2]", "'evaluator.metrics' must be str (got '1')"),
    ("recommend {run} --users x", "'users' must be int (got 'x')"),
    ("recommend {run} --k 2.5", "'k' must be int (got '2.5')"),
    ("evaluate {run} --part train", "argument --part: invalid choice: 'train'"),
    ("compare {data} --seeds x", "'seeds' must be int (got 'x')"),
    ("compare {data} --init_args x", "'init_args' must be dict (got 'x')"),
    ("compare {data} --models BPRMF --init_args '{BPRMF: {hidden_channels: x}}'", "'hidden_channels' must be int"),
    # values
    (TRAIN + "--trainer.seed -1", "'seed' must not be negative (got -1)"),
    (TRAIN + "--trainer.batch_size 0", "'batch_size' must be positive (got 0)"),
    (TRAIN + "--trainer.neighbors [5,0]", "'neighbors' must be -1, for all, or positive (got 0)"),
    (FREEDOM_ + "--trainer.neighbors [5]", "layers over the interactions (got [5])"),
    (TRAIN + "--trainer.monitor recall@7", "'monitor' must be one of recall@10"),
    (TRAIN + "--trainer.accelerator gpuu", "invalid accelerator name"),
    (TRAIN + "--trainer.precision 33", "Precision '33' is invalid"),
    (TRAIN + "--dataset.num_items 3", "'num_items' must be an integer of at least 20 (got 3)"),
    (TRAIN + "--split RandomSplit --split.holdout 2", "'holdout' must lie in (0, 1) (got 2.0)"),
    (TRAIN + "--split LabelSplit", "has no 'split'; use RandomSplit"),
    (FREEDOM_ + "--model.pruning 1.5", "'pruning' must lie in [0, 1) (got 1.5)"),
    (FREEDOM_ + "--graph.k 0", "'k' must be positive (got 0)"),
    (FREEDOM_ + "--graph.k 1000", "'k' must be at most 40, the number of items (got 1000)"),
    (TRAIN + "--cooccurrence.k 0", "'k' must be positive (got 0)"),
    (FREEDOM_ + "--graph.modalities [imge]", "has no modality 'imge'; it has image, text; did you mean image?"),
    (FREEDOM_ + "--trainer.learning_rate 1e30 --trainer.batch_size 64", "loss term "),
    ("evaluate {run} --evaluator.metrics [rcall@20]", "unknown metric 'rcall@20': did you mean 'recall@20'"),
    ("evaluate {run} --evaluator.metrics [recall@41]", "'recall@41' asks for more than the 40 items of the catalogue"),
    ("recommend {run} --users 60", "'users' must lie in 0..59 (got 60..60)"),
    ("recommend {run} --users -1", "'users' must lie in 0..59 (got -1..-1)"),
    ("recommend {run} --k 41", "'k' must lie in 1..40, the number of items (got 41)"),
    ("recommend {run} --k 0", "'k' must lie in 1..40, the number of items (got 0)"),
    ("compare {data}", "--models is missing: name the models to compare, such as --models LightGCN FREEDOM"),
    ("compare {data} --models BPRMF BPRMF", "candidates must have different names"),
    ("compare {data} --models BPRMF --seeds 1 1", "'seeds' must differ (got 1, 1)"),
    ("compare {data} --models BPRMF --show recall@5", "--show recall@5 is not evaluated: name it in --evaluator"),
    ("compare {data} --models BPRMF --init_args '{VBPR: {}}'", "--init_args names VBPR, which is not among --models"),
    # files and folders
    ("train --model BPRMF {data} --run_dir {run}", "already holds a run: add --resume to go on with it or choose"),
    ("train --model BPRMF {data} --run_dir {run} --resume", "was written with"),
    ("train --model BPRMF {data} --run_dir {tmp}/new --resume", "holds no run to go on with: start one without"),
    ("train --model BPRMF {data} --run_dir {run}/config.yaml", "config.yaml' is not a folder: choose another"),
    (
        "train --model BPRMF {data} --run_dir {run}/config.yaml/new",
        "config.yaml' is not a folder to write to: choose another",
    ),
    ("datasets --dataset MMRecDataset --dataset.root {tmp} --dataset.name baby", "baby"),
    ("evaluate {tmp}/nothing", "has no config.yaml: is it a folder that 'pyg-mmrec train' wrote?"),
    ("recommend {tmp}", "has no config.yaml: is it a folder that 'pyg-mmrec train' wrote?"),
    ("recommend {run} --output {tmp}/no/out.csv", "/no/out.csv cannot be written: name a file in a folder that"),
    ("compare {data} --output {tmp}", "cannot be written: name a file in a folder that exists"),
    ("train --config {tmp}/none.yaml", "none.yaml': [Errno 2] No such file or directory"),
    ("train --config {tmp}", "Is a directory"),
]


def filled(template: str, data: list[str], run: Path, tmp: Path) -> list[str]:
    """The tokens of a command line, with what its placeholders stand for."""
    tokens = []
    for token in shlex.split(template):
        tokens += data if token == "{data}" else [token.replace("{run}", str(run)).replace("{tmp}", str(tmp))]
    return tokens


@pytest.mark.parametrize(("template", "message"), BAD, ids=[template or "nothing" for template, _ in BAD])
def test_bad_input_is_one_line(
    template: str, message: str, data: list[str], trained: Path, tmp_path: Path, failure: Any
) -> None:
    assert message in failure(*filled(template, data, trained, tmp_path))
    assert not (tmp_path / "new" / "result.json").exists()


BAD_FILES = [
    ("a: [1", "config.yaml': "),
    ("\x00", "config.yaml': "),
    ("", "must hold 'argument: value' pairs (got None)"),
    ("- 1", "must hold 'argument: value' pairs (got [1])"),
    ("hello", "must hold 'argument: value' pairs (got 'hello')"),
    ("modle: FREEDOM", "unknown argument 'modle'; did you mean '--model'?"),
    ("trainer: {max_epoch: 3}", "unknown argument 'trainer.max_epoch'; did you mean '--trainer.max_epochs'?"),
    ("trainer: {max_epochs: x}", "'trainer.max_epochs' must be int (got 'x')"),
    ("trainer: null", "'trainer' in the configuration"),
    ("trainer: fast", "must hold 'argument: value' pairs (got 'fast')"),
    ("model: FREDOM", "unknown model 'FREDOM'; did you mean 'FREEDOM'?"),
    ("model: {class_path: FREDOM}", "unknown model 'FREDOM'; did you mean 'FREEDOM'?"),
    ("model: {class_path: BPRMF, init_args: 3}", "'model' in the configuration"),
    ("model: {class_path: BPRMF, init_args: {hiden: 3}}", "BPRMF has no argument 'hiden'; known are hidden_channels"),
    ("model: {class_path: BPRMF, init_args: {hidden_channels: x}}", "'hidden_channels' must be int (got 'x')"),
    ("model: {init_args: {hidden_channels: 3}}", "--model.hidden_channels needs a model: name one with --model"),
]


@pytest.mark.parametrize(("text", "message"), BAD_FILES)
def test_a_bad_configuration_is_one_line(
    text: str, message: str, data: list[str], tmp_path: Path, failure: Any
) -> None:
    (tmp_path / "config.yaml").write_text(text)
    model = [] if text.startswith("model") else ["--model", "BPRMF"]
    line = failure("train", *model, *data, "--config", tmp_path / "config.yaml")
    assert message in line


BAD_RUNS = [
    ("config.yaml", b"a: [", "config.yaml': "),
    ("config.yaml", b"\xff\xfe\x00", "config.yaml': "),
    ("config.yaml", b"", "must hold 'argument: value' pairs (got None)"),
    ("split.json", b"{}", "the interactions or their split are not those of the run"),
    ("model/config.json", b"{", "does not hold a saved model"),
    ("model/config.json", b"[]", "does not hold a saved model"),
    ("model/config.json", b'{"model": "Nothing", "init_args": {}}', "holds a Nothing, not a Recommender"),
    ("model/config.json", b'{"model": "BPRMF", "init_args": "x"}', "config.json"),
    ("model/config.json", b'{"model": "BPRMF", "init_args": {"a": 1}}', "config.json"),
    ("model/config.json", b'{"model": "BPRMF", "init_args": {"num_users": "x", "num_items": 3}}', "config.json"),
    ("model/config.json", b'{"model": "BPRMF", "init_args": {"num_users": 60, "num_items": 40}}', "do not fit its con"),
    ("model/model.safetensors", b"\x00", "does not hold a saved model"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_RUNS)
def test_a_damaged_run_is_one_line(name: str, content: bytes, message: str, run: Path, failure: Any) -> None:
    (run / name).write_bytes(content)
    assert message in failure("evaluate", run)


def test_a_damaged_checkpoint_is_one_line(run: Path, failure: Any) -> None:
    (run / "last.ckpt").write_bytes(b"\x00")
    line = failure("train", "--config", run / "config.yaml", "--run_dir", run, "--resume")
    assert "last.ckpt' is not a readable checkpoint" in line


@pytest.mark.parametrize("missing", ["model", "split.json", "model/config.json", "model/model.safetensors"])
def test_a_run_with_a_part_missing_is_one_line(missing: str, run: Path, failure: Any) -> None:
    path = run / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    line = failure("recommend", run)
    assert Path(missing).name.partition(".")[0] in line


def test_other_data_than_the_run_was_trained_on_is_refused(run: Path, failure: Any) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("num_users: 60", "num_users: 61"))
    assert f"not those of the run in '{run}': start a new run" in failure("evaluate", run)


def test_errors_of_torch_are_one_line(data: list[str], tmp_path: Path, failure: Any) -> None:
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is there")
    line = failure("train", "--model", "BPRMF", *data, "--trainer.accelerator", "cuda", "--run_dir", tmp_path)
    assert line.endswith("(PYG_MMREC_DEBUG=1 shows where)")


def test_debugging_shows_where(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYG_MMREC_DEBUG", "1")
    with pytest.raises(ValueError, match="'k' must lie in"):
        main(["recommend", str(trained), "--k", "0"])

from __future__ import annotations

import copy
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from pyg_mmrec.benchmark import Range, _runs, train_one
from pyg_mmrec.cli import main
from pyg_mmrec.cli.suite import read_suite
from pyg_mmrec.models import BPRMF
from tests.test_docs_snippets import blocks, console

SUITE: dict[str, Any] = {
    "datasets": {
        "shop": {
            "class_path": "AttributeShop",
            "init_args": {"num_users": 60, "num_items": 40, "interactions_per_user": 8},
            "split": {"class_path": "RandomSplit", "init_args": {"seed": 1}},
            "graph": {"k": 3},
        }
    },
    "models": {
        "Popularity": None,
        "factors": {
            "class_path": "BPRMF",
            "init_args": {"hidden_channels": 4},
            "trainer_args": {"patience": 5},
            "search": {
                "init_args": {"l2_weight": {"low": 1e-4, "high": 1e-1, "log": True}},
                "trainer_args": {"batch_size": [32, 64]},
            },
            "published": {"shop": {"recall@5": 0.25, "where": "a table"}},
        },
        "FREEDOM": {"init_args": {"hidden_channels": 4}},
    },
    "seeds": [0, 1],
    "search": {"trials": 2, "seed": 3, "trainer_args": {"max_epochs": 1}},
    "trainer": {"max_epochs": 3, "batch_size": 128, "learning_rate": 0.05, "checkpoint_epochs": 1},
    "metrics": ["recall@5", "coverage@5"],
    "monitor": "recall@5",
    "evaluator": {"block_size": 16},
}
KEY = ["dataset", "model", "purpose", "init_args", "trainer_args", "seed"]
SCORES = ["val_recall@5", "test_recall@5", "test_coverage@5"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(SUITE, sort_keys=False))
    return path


def test_the_file_becomes_a_suite(suite: Path) -> None:
    found = read_suite(suite, "there")
    assert found.datasets["shop"].init_args["root"] == "there"
    factors = found.methods[1]
    assert (factors.candidate.name, factors.candidate.model) == ("factors", BPRMF)
    assert factors.space == {
        "init_args.l2_weight": Range(1e-4, 1e-1, log=True),
        "trainer_args.batch_size": [32, 64],
    }
    assert (found.trials, found.search_seed, found.search_trainer) == (2, 3, {"max_epochs": 1})
    described = found.describe()
    assert {
        **described,
        "models": {**described["models"], "Popularity": None, "FREEDOM": SUITE["models"]["FREEDOM"]},
    } == SUITE | {"models": SUITE["models"]}


def test_what_is_written_is_read_as_the_same_suite(suite: Path, tmp_path: Path) -> None:
    found = read_suite(suite, "there")
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(found.describe()))
    assert read_suite(tmp_path / "again.yaml", "elsewhere").describe() == found.describe()


def test_the_committed_suite_is_valid() -> None:
    found = read_suite(Path(__file__).parents[1] / "benchmarks" / "shop.yaml", "data")
    assert [method.candidate.name for method in found.methods] == ["LightGCN", "VBPR", "FREEDOM", "SEA"]
    assert list(found.seeds) == [0, 1, 2]


def test_the_suite_of_the_guide(tmp_path: Path, failure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs" / "guide" / "benchmark.md").read_text(encoding="utf-8")
    text = blocks(page, "yaml")[0]
    monkeypatch.chdir(tmp_path)
    Path("suite.yaml").write_text(text)
    assert read_suite("suite.yaml", "data").methods[2].candidate.name == "FREEDOM, no images"
    (command, shown), *_ = console(page)
    Path("suite.yaml").write_text(text.replace("  LightGCN:\n", "  LightGCN:\n    init_args: {num_layer: 2}\n"))
    assert f"pyg-mmrec: error: {failure(*command.split()[1:])}\n" == shown


def test_the_command_prints_tables_and_tests(
    suite: Path, root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    flags = ["--output", str(output), "--root", root, "--threads", "1", "--tests", "recall@5"]
    main(["benchmark", str(suite), *flags])
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines[0] == "shop: test results, mean and standard deviation over seeds, selected on validation"
    assert [line.split()[0] for line in lines[3:6]] == ["Popularity", "factors", "FREEDOM"]
    runs = pd.read_csv(output / "runs.csv")
    means = runs[runs["purpose"] == "test"].groupby("model")["test_recall@5"].mean()
    assert f" {means['factors']:.4f} ± " in lines[4]
    assert " 0.2500 " in lines[4]
    assert "recall@5 by user, means over seeds; p-values by Holm's method, 95 % intervals" in lines
    users = [pd.read_csv(output / "shop" / name / "seed-0" / "users.csv") for name in ("Popularity", "FREEDOM")]
    assert len(users[0]) == len(users[1])
    difference = means["Popularity"] - means["FREEDOM"]
    assert any(line.split()[:4] == ["Popularity", "-", "FREEDOM", f"{difference:+.4f}"] for line in lines)
    main(["benchmark", str(suite), *flags])
    assert capsys.readouterr().out == printed.out


def test_failed_runs_end_the_command_with_status_1(
    suite: Path, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(candidate: Any, views: Any, seed: int, **options: Any) -> Any:
        if candidate.name == "FREEDOM" and seed == 1:
            raise MemoryError
        return train_one(candidate, views, seed, **options)

    monkeypatch.setattr(_runs, "train_one", fail)
    with pytest.raises(SystemExit) as ended:
        main(["benchmark", str(suite), "--output", str(tmp_path / "out"), "--root", root, "--threads", "1"])
    assert ended.value.code == 1
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "failed: shop FREEDOM seed 1: MemoryError",
        "pyg-mmrec: error: 1 failed; the same command tries them again",
        "    shop FREEDOM seed 1: MemoryError",
    ]
    assert "FREEDOM" in printed.out


def test_stopping(suite: Path, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Any) -> None:
    def stop(*args: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(_runs, "train_one", stop)
    message = failure("benchmark", suite, "--output", tmp_path / "out", "--root", root, "--threads", "1")
    assert message == "stopped; the same command goes on"


def change(path: str, value: Any) -> str:
    """The suite as text, with another value at a path."""
    content = copy.deepcopy(SUITE)
    *sections, key = path.split("/")
    section = content
    for name in sections:
        section = section[name]
    section[key] = value
    return yaml.safe_dump(content, sort_keys=False)


MODEL = "models/factors"
LISTED = "must be a list of choices or a range of low and high"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1", "cannot read the suite '{}': expected ',' or ']', but got '<stream end>' in line 1"),
        ("", "{}: the suite must hold 'key: value' pairs (got None)"),
        ("models:\n  A:\n  A:\n", "{}: the key 'A' in line 3 is there twice"),
        ("models: {}\n", "{}: the suite lacks 'datasets'"),
        (change("modelz", {}), "{}: the suite has the unknown key 'modelz'; did you mean 'models'?"),
        (change("models", {1: {}}), "{}: models has the key 1, which is no text: put it in quotes"),
        (change("models/BPRMFF", {}), "{}: models.BPRMFF: unknown model 'BPRMFF'; did you mean 'BPRMF'?"),
        (
            change(f"{MODEL}/init_arg", {}),
            "{}: models.factors has the unknown key 'init_arg'; did you mean 'init_args'?",
        ),
        (
            change(f"{MODEL}/init_args/hiden_channels", 3),
            "{}: models.factors: BPRMF has no argument 'hiden_channels'; did you mean 'hidden_channels'?",
        ),
        (
            change(f"{MODEL}/init_args/hidden_channels", "x"),
            "{}: models.factors: 'hidden_channels' must be int (got 'x')",
        ),
        (
            change(f"{MODEL}/search/init_args/l2_weigth", [1]),
            "{}: models.factors.search.init_args.l2_weigth: BPRMF has no argument 'l2_weigth'"
            "; did you mean 'l2_weight'?",
        ),
        (
            change(f"{MODEL}/search/init_args/l2_weight", ["a"]),
            "{}: models.factors.search.init_args.l2_weight: 'l2_weight' must be float (got 'a')",
        ),
        (
            change(f"{MODEL}/search/init_args/l2_weight", []),
            "{}: models.factors.search.init_args.l2_weight " + LISTED + " (got [])",
        ),
        (
            change(f"{MODEL}/search/init_args/l2_weight", {"low": 0.1, "hihg": 1}),
            "{}: models.factors.search.init_args.l2_weight has the unknown key 'hihg'; did you mean 'high'?",
        ),
        (
            change(f"{MODEL}/search/init_args/l2_weight", {"low": 2, "high": 1}),
            "{}: models.factors.search.init_args.l2_weight: 'low' must be below 'high' (got 2 and 1)",
        ),
        (
            change(f"{MODEL}/search/trainer_args/batch_size", [32, 0]),
            "{}: models.factors.search.trainer_args.batch_size: 'batch_size' must be positive (got 0)",
        ),
        (
            change(f"{MODEL}/search/init_arg", {}),
            "{}: models.factors.search has the unknown key 'init_arg'; did you mean 'init_args'?",
        ),
        (
            change(f"{MODEL}/published", {"shops": {"recall@5": 1}}),
            "{}: factors: 'published' has the unknown data set 'shops'; did you mean 'shop'?",
        ),
        (change("trainer/max_epoch", 3), "{}: trainer has the unknown key 'max_epoch'; did you mean 'max_epochs'?"),
        (change("trainer/max_epochs", "q"), "{}: trainer: 'max_epochs' must be int (got 'q')"),
        (change("trainer/max_epochs", -3), "{}: trainer: 'max_epochs' must be positive (got -3)"),
        (change("search/trails", 3), "{}: search has the unknown key 'trails'; did you mean 'trials'?"),
        (change("search/trials", 0), "{}: factors: has a search space: set the number of trials"),
        (change("seeds", 3), "{}: 'seeds' must be a list (got 3)"),
        (change("seeds", ["a"]), "{}: 'seeds' must be an int (got 'a')"),
        (change("metrics", ["recal@5"]), "{}: unknown metric 'recal@5': did you mean 'recall@5'"),
        (change("monitor", "recall@20"), "{}: 'monitor' must be one of recall@5, coverage@5 (got 'recall@20')"),
        (change("evaluator", {"block": 1}), "{}: evaluator has the unknown key 'block'; did you mean 'block_size'?"),
        (
            change("datasets/shop/class_path", "AtributeShop"),
            "{}: datasets.shop: unknown dataset 'AtributeShop'; did you mean 'AttributeShop'?",
        ),
        (
            change("datasets/shop/init_args/users", 3),
            "{}: datasets.shop: AttributeShop has no argument 'users'; did you mean 'num_users'?",
        ),
        (
            change("datasets/shop/split", "RandomSplitt"),
            "{}: datasets.shop.split: unknown split 'RandomSplitt'; did you mean 'RandomSplit'?",
        ),
        (
            change("datasets/shop/split/init_args", {"holdout": 3}),
            "{}: datasets.shop.split: 'holdout' must lie in (0, 1) (got 3)",
        ),
        (change("datasets/shop/graph", {"k": 0}), "{}: datasets.shop.graph: 'k' must be positive (got 0)"),
    ],
)
def test_files_that_are_refused(content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(content)
    with pytest.raises(SystemExit) as ended:
        read_suite(path, "data")
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"pyg-mmrec: error: {message.format(path)}\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("models: {}\n", "{}: the suite lacks 'datasets'"),
        (
            change("datasets/shop/init_args/num_users", -3),
            "data set shop: 'num_users' must be an integer of at least 1 (got -3)",
        ),
        (
            change(f"{MODEL}/init_args/hidden_channels", -3),
            "factors on shop: 'hidden_channels' must be positive (got -3)",
        ),
    ],
)
def test_what_is_refused_leaves_nothing(content: str, message: str, tmp_path: Path, root: str, failure: Any) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(content)
    assert failure("benchmark", path, "--output", tmp_path / "out", "--root", root) == message.format(path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tests", "ndcg@5"], "--tests ndcg@5 is not a metric of single users among those of the suite: recall@5"),
        (
            ["--tests", "coverage@5"],
            "--tests coverage@5 is not a metric of single users among those of the suite: recall@5",
        ),
        (["--processes", "0"], "'processes' must be positive (got 0)"),
        (["--threads", "0"], "'threads' must be positive (got 0)"),
        (["--devices", "gpu"], "'devices' must be among cpu (got 'gpu')"),
        (["--procesess", "2"], "unknown argument --procesess 2; did you mean '--processes'?"),
    ],
)
def test_flags_that_are_refused(
    flags: list[str],
    message: str,
    suite: Path,
    root: str,
    tmp_path: Path,
    failure: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert failure("benchmark", suite, "--output", tmp_path / "out", "--root", root, *flags) == message
    assert not (tmp_path / "out").exists()


def test_no_such_file(tmp_path: Path, failure: Any) -> None:
    path = tmp_path / "none.yaml"
    assert failure("benchmark", path, "--output", tmp_path) == (
        f"cannot read the suite '{path}': No such file or directory"
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("the command ended before it could be killed")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_kill_9(processes: int, root: str, tmp_path: Path) -> None:
    """Killed within a test run, then left to end: the table of a benchmark that nothing happened to."""
    suite, whole, killed = tmp_path / "suite.yaml", tmp_path / "whole", tmp_path / "killed"
    suite.write_text(change("trainer", {**SUITE["trainer"], "max_epochs": 40, "patience": 40}))
    flags = ["--root", root, "--processes", str(processes), "--threads", "1"]
    main(["benchmark", str(suite), "--output", str(whole), "--root", root, "--threads", "1"])
    command = [sys.executable, "-m", "pyg_mmrec.cli", "benchmark", str(suite), "--output", str(killed), *flags]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_for(lambda: num_rows(killed) > 2 and any(killed.glob("shop/*/seed-*/last.ckpt")), process)
    process.kill()
    process.wait()
    time.sleep(1)  # its other processes see that it has ended
    kept = pd.read_csv(killed / "runs.csv")
    ended = {path: path.stat().st_mtime_ns for path in metrics_of(kept, killed)}
    main(["benchmark", str(suite), "--output", str(killed), *flags])
    expected, done = (pd.read_csv(folder / "runs.csv") for folder in (whole, killed))
    assert 2 < len(kept) < len(done) == len(expected)
    assert not done.duplicated(KEY).any()
    pd.testing.assert_frame_equal(done.iloc[: len(kept)][kept.columns], kept, check_dtype=False)  # seconds as well
    assert {path: path.stat().st_mtime_ns for path in ended} == ended
    one, two = (
        runs.sort_values(KEY)[[*KEY, "best_epoch", "num_epochs", *SCORES]].reset_index(drop=True)
        for runs in (expected, done)
    )
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def num_rows(folder: Path) -> int:
    table = folder / "runs.csv"
    return len(table.read_text().splitlines()) - 1 if table.exists() else 0


def metrics_of(runs: pd.DataFrame, folder: Path) -> list[Path]:
    """What the test runs of a table wrote when they had ended."""
    rows = runs[runs["purpose"] == "test"].to_dict("records")
    return [folder / "shop" / row["model"] / f"seed-{row['seed']}" / "metrics.json" for row in rows]

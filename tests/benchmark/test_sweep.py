from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from pyg_mmrec.benchmark import (
    Candidate,
    Ledger,
    Range,
    Suite,
    SuiteDataset,
    SuiteFacts,
    SuiteMethod,
    SuiteResult,
    _runs,
    run_suite,
    train_one,
)
from pyg_mmrec.benchmark._runs import KEY
from pyg_mmrec.benchmark._workers import make_slots
from pyg_mmrec.benchmark.suite import check_extends
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.loader import TripletLoader
from pyg_mmrec.models import BPRMF, FREEDOM, Popularity, Recommender
from pyg_mmrec.typing import Triplets

SIZES = {"num_users": 60, "num_items": 40, "interactions_per_user": 8}
SMALL = {"hidden_channels": 4}
POPULARITY = SuiteMethod(Candidate(Popularity))
SEARCHED = SuiteMethod(Candidate(BPRMF, SMALL, label="factors"), {"init_args.l2_weight": [1e-3, 1e-1, 10.0]})
FIXED = SuiteMethod(Candidate(FREEDOM, SMALL, {"patience": 1}), published={"shop": {"recall@5": 0.2, "where": "there"}})
SCORES = [f"{part}_{metric}" for part in ("val", "test") for metric in ("recall@5", "ndcg@5")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def suite(root: str) -> Suite:
    """Two searched trials of a model, then two seeds of it and another, and a third without parameters."""
    return Suite(
        {"shop": SuiteDataset(AttributeShop, {"root": root, **SIZES}, graph={"k": 3})},
        [POPULARITY, SEARCHED, FIXED],
        seeds=[0, 1],
        trials=2,
        search_trainer={"max_epochs": 1},
        trainer={"max_epochs": 3, "batch_size": 128, "learning_rate": 0.05, "checkpoint_epochs": 1},
        metrics=["recall@5", "ndcg@5", "coverage@5"],
        monitor="recall@5",
    )


@pytest.fixture(scope="module")
def finished(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the finished suite; not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "results"
    assert run_suite(suite, folder).failures == {}
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished suite that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "results"))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, bool]]:
    """Name, seed and whether it was resumed, of each training from here on."""
    calls: list[tuple[str, int, bool]] = []

    def record(candidate: Candidate, views: Any, seed: int, **options: Any) -> Any:
        calls.append((candidate.name, seed, options["resume"]))
        return train_one(candidate, views, seed, **options)

    monkeypatch.setattr(_runs, "train_one", record)
    return calls


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    """A benchmark sets the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def of(rows: pd.DataFrame, **columns: Any) -> pd.DataFrame:
    for name, value in columns.items():
        rows = rows[rows[name] == value]
    return rows


def same_results(one: pd.DataFrame, two: pd.DataFrame) -> None:
    """Whether two tables have the same runs with the same results, in any order."""
    columns = ["model", "purpose", "init_args", "trainer_args", "seed", "best_epoch", "num_epochs", *SCORES]
    tables = (table[columns].sort_values(columns[:5]).reset_index(drop=True) for table in (one, two))
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(("events.", "."))}


def test_what_is_written(finished: Path) -> None:
    runs = pd.read_csv(finished / "runs.csv")
    pd.testing.assert_frame_equal(runs, pd.read_parquet(finished / "runs.parquet"), check_dtype=False)
    kinds = runs.groupby(["model", "purpose"]).size().to_dict()
    assert kinds == {
        ("Popularity", "test"): 1,
        ("factors", "search"): 2,
        ("factors", "test"): 2,
        ("FREEDOM", "test"): 2,
    }
    assert of(runs, purpose="search").filter(like="test_").isna().all(axis=None)
    assert of(runs, purpose="search")["num_epochs"].tolist() == [1, 1]
    assert of(runs, purpose="test")[SCORES].notna().all(axis=None)
    columns = ["dataset", "protocol", "split_hash", "best_epoch", "seconds", "device", "torch", "pyg_mmrec", "date"]
    assert runs[columns].notna().all(axis=None)
    assert set(of(runs, model="FREEDOM")["published_recall@5"]) == {0.2}
    assert set(of(runs, model="FREEDOM")["published_where"]) == {"there"}
    assert of(runs, model="FREEDOM")["trainer_args"].iloc[0] == (
        '{"batch_size": 128, "checkpoint_epochs": 1, "learning_rate": 0.05, "max_epochs": 3, "patience": 1}'
    )
    trials = of(runs, purpose="search").set_index("init_args")["val_recall@5"]
    assert set(of(runs, model="factors", purpose="test")["init_args"]) == {trials.idxmax()}


def test_the_folders_of_runs(finished: Path) -> None:
    factors = finished / "shop" / "factors"
    assert names_in(factors) == {"search-0", "search-1", "seed-0", "seed-1"}
    assert [path.name for path in (factors / "search-0").iterdir()] == ["history.csv"]
    assert names_in(factors / "seed-0") == {
        *("settings.json", "environment.json", "history.csv", "metrics.json", "model", "users.csv", "run.json"),
    }
    runs = pd.read_csv(finished / "runs.csv")
    for seed, row in of(runs, model="factors", purpose="test").set_index("seed").iterrows():
        users = pd.read_csv(factors / f"seed-{seed}" / "users.csv", index_col="user")
        assert list(users) == ["recall@5", "ndcg@5"]
        assert users["recall@5"].mean() == pytest.approx(row["test_recall@5"])


def test_a_run_is_what_the_trainer_does(suite: Suite, finished: Path) -> None:
    views = suite.datasets["shop"].views(suite.methods)
    evaluator = Evaluator(["recall@5", "ndcg@5"])
    candidate = replace(FIXED.candidate, trainer_args={**suite.trainer, "patience": 1})
    model, row = train_one(candidate, views, 1, evaluator=evaluator, monitor="recall@5", progress=False)
    found = of(pd.read_csv(finished / "runs.csv"), model="FREEDOM", seed=1).iloc[0]
    assert {name: found[name] for name in SCORES} == pytest.approx({name: row[name] for name in SCORES}, rel=1e-12)
    saved = Recommender.from_pretrained(finished / "shop" / "FREEDOM" / "seed-1" / "model")
    for name, weight in model.state_dict().items():
        assert torch.equal(saved.state_dict()[name], weight)


def test_finished_runs_are_not_repeated(suite: Suite, folder: Path, trained: list[Any]) -> None:
    before = (folder / "runs.csv").read_bytes()
    result = run_suite(suite, folder)
    assert isinstance(result, SuiteResult)
    assert len(result.runs) == 7
    assert not trained
    assert (folder / "runs.csv").read_bytes() == before


def test_a_run_under_way_goes_on_from_its_checkpoint(
    suite: Suite, finished: Path, tmp_path: Path, trained: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the third epoch of the second seed of FREEDOM."""
    epoch_of = TripletLoader.epoch

    def stop(loader: TripletLoader, epoch: int, start: int = 0) -> Iterator[Triplets]:
        if len(trained) == 4 and epoch == 2:
            raise KeyboardInterrupt
        return epoch_of(loader, epoch, start)

    with monkeypatch.context() as patch:
        patch.setattr(TripletLoader, "epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            run_suite(replace(suite, methods=[SEARCHED, FIXED]), tmp_path)
    assert len(pd.read_csv(tmp_path / "runs.csv")) == 3
    trained.clear()
    runs = run_suite(suite, tmp_path).runs
    assert {call for call in trained if call[2]} == {("FREEDOM", 1, True)}
    assert len(trained) == 4
    same_results(Ledger(finished / "runs.csv", KEY).rows(), runs)


def test_a_run_that_fails_does_not_stop_the_others(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = replace(suite, methods=[POPULARITY, FIXED])

    def fail(candidate: Candidate, views: Any, seed: int, **options: Any) -> Any:
        if (candidate.name, seed) == ("FREEDOM", 0):
            raise RuntimeError("no memory\nfor this")
        return train_one(candidate, views, seed, **options)

    with monkeypatch.context() as patch:
        patch.setattr(_runs, "train_one", fail)
        result = run_suite(suite, tmp_path)
    assert result.failures == {"shop FREEDOM seed 0": "no memory"}
    assert capsys.readouterr().err == "failed: shop FREEDOM seed 0: no memory\n"
    assert len(result.runs) == 2
    again = run_suite(suite, tmp_path)
    assert again.failures == {}
    assert len(again.runs) == 3


def test_a_method_is_not_tested_before_its_search_is_whole(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = replace(suite, methods=[SEARCHED])

    def fail(candidate: Candidate, views: Any, seed: int, **options: Any) -> Any:
        if not options["run_dir"].name.endswith("-0"):
            raise OSError("disk")
        return train_one(candidate, views, seed, **options)

    with monkeypatch.context() as patch:
        patch.setattr(_runs, "train_one", fail)
        result = run_suite(suite, tmp_path)
    assert result.failures == {
        "shop factors trial 1": "disk",
        "shop factors": "not tested, because its search lacks the runs that failed",
    }
    assert of(result.runs, model="factors")["purpose"].tolist() == ["search"]
    assert len(run_suite(suite, tmp_path).runs) == 4


def diverge(at: Callable[[Candidate], bool]) -> Callable[..., Any]:
    def train(candidate: Candidate, views: Any, seed: int, **options: Any) -> Any:
        if at(candidate):
            raise FloatingPointError("loss term 'bpr' is nan in epoch 0")
        return train_one(candidate, views, seed, **options)

    return train


def test_a_trial_that_diverges_is_a_result(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = replace(suite, methods=[SEARCHED], trials=3, seeds=[0])
    monkeypatch.setattr(_runs, "train_one", diverge(lambda candidate: candidate.init_args.get("l2_weight") == 0.1))
    result = run_suite(suite, tmp_path)
    assert result.failures == {}
    trials = of(result.runs, model="factors", purpose="search")
    assert trials["failure"].notna().sum() == 1
    assert trials["val_recall@5"].isna().sum() == 1
    monkeypatch.undo()
    before = (tmp_path / "runs.csv").read_bytes()
    assert run_suite(suite, tmp_path).failures == {}
    assert (tmp_path / "runs.csv").read_bytes() == before


def test_a_search_in_which_all_diverge(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = replace(suite, methods=[POPULARITY, SEARCHED])
    monkeypatch.setattr(_runs, "train_one", diverge(lambda candidate: candidate.name == "factors"))
    result = run_suite(suite, tmp_path)
    assert result.failures == {
        "shop factors": "not tested, because no trial of its search ended with a finite loss",
    }
    assert len(of(result.runs, purpose="test")) == 1


def test_a_suite_may_grow(suite: Suite, root: str, tmp_path: Path, trained: list[Any]) -> None:
    suite = replace(suite, methods=[SEARCHED], seeds=[0])
    first = run_suite(suite, tmp_path)
    trained.clear()
    other = SuiteDataset(AttributeShop, {"root": root, **SIZES, "num_users": 50}, graph={"k": 3})
    more = replace(
        suite,
        datasets={
            **suite.datasets,
            "other": other,
        },
        methods=[POPULARITY, *suite.methods],
        seeds=[1, 0],
        trials=3,
    )
    second = run_suite(more, tmp_path)
    old = second.runs.iloc[: len(first.runs)]
    pd.testing.assert_frame_equal(old.drop(columns="purpose"), first.runs.drop(columns="purpose"), check_dtype=False)
    assert len(of(second.runs, purpose="search")) == 6
    assert {name: len(part) for name, part in second.tests()} == {"shop": 3, "other": 3}
    assert len(trained) == len(second.runs) - len(first.runs)


def test_a_larger_budget_may_choose_another_point(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last point of the grid wins: the test runs of the earlier choice are kept, but no longer count."""

    def favour(candidate: Candidate, views: Any, seed: int, **options: Any) -> Any:
        model, row = train_one(candidate, views, seed, **options)
        if options["run_dir"].name == "search-2":
            row["val_recall@5"] = 2.0
        return model, row

    suite = replace(suite, methods=[SEARCHED])
    monkeypatch.setattr(_runs, "train_one", favour)
    first = of(run_suite(suite, tmp_path).runs, model="factors", purpose="test")
    runs = run_suite(replace(suite, trials=3), tmp_path).runs
    assert of(runs, purpose="superseded")["init_args"].tolist() == first["init_args"].tolist()
    tested = of(runs, model="factors", purpose="test")
    assert tested["seed"].tolist() == [0, 1]
    assert set(tested["init_args"]) == set(of(runs, trial=2)["init_args"])
    users = pd.read_csv(tmp_path / "shop" / "factors" / "seed-0" / "users.csv")
    assert users["recall@5"].mean() == pytest.approx(tested["test_recall@5"].iloc[0])


def test_ranges_of_both_kinds_of_arguments(suite: Suite, tmp_path: Path) -> None:
    space = {"init_args.l2_weight": Range(1e-4, 1e-1, log=True), "trainer_args.batch_size": Range(32, 64)}
    method = SuiteMethod(Candidate(BPRMF, SMALL), space)
    runs = run_suite(replace(suite, methods=[method], seeds=[0]), tmp_path).runs
    trials = of(runs, purpose="search")
    assert trials["init_args"].nunique() == trials["trainer_args"].nunique() == 2
    best = trials.loc[trials["val_recall@5"].idxmax()]
    tested = of(runs, purpose="test").iloc[0]
    assert tested["init_args"] == best["init_args"]
    assert tested["trainer_args"] == best["trainer_args"].replace('"max_epochs": 1', '"max_epochs": 3')


def test_other_data_are_refused(suite: Suite, root: str, tmp_path: Path) -> None:
    suite = replace(suite, methods=[POPULARITY])
    run_suite(suite, tmp_path)
    runs = pd.read_csv(tmp_path / "runs.csv")
    runs.assign(split_hash="0" * 16).to_csv(tmp_path / "runs.csv", index=False)
    with pytest.raises(ValueError, match="the interactions of 'shop' or their split are not those of the runs"):
        run_suite(suite, tmp_path)


def test_folders_that_are_refused(suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file' is not a folder"):
        run_suite(suite, tmp_path / "file")
    with pytest.raises(ValueError, match="holds other files, such as file: choose an empty folder"):
        run_suite(suite, tmp_path)
    (tmp_path / "suite.yaml").write_text("models: [")
    with pytest.raises(ValueError, match=r"suite.yaml is no suite of a benchmark \(.+\): choose another folder"):
        run_suite(suite, tmp_path)


def test_one_command_at_a_time(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = []

    def second(candidate: Candidate, views: Any, seed: int, **options: Any) -> Any:
        with pytest.raises(ValueError, match="is in use by another process") as error:
            run_suite(replace(suite, methods=[POPULARITY]), tmp_path)
        refused.append(error)
        return train_one(candidate, views, seed, **options)

    monkeypatch.setattr(_runs, "train_one", second)
    run_suite(replace(suite, methods=[POPULARITY]), tmp_path)
    assert refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": [1]}, r"^'seeds' lacks 0, which there has: put it back, or choose another output folder$"),
        ({"trials": 1}, r"^'search.trials' is 1, below the 2 of there"),
        ({"methods": [POPULARITY]}, r"^'models' lacks 'factors', which there has"),
        ({"monitor": "ndcg@5"}, r"^'monitor' is 'ndcg@5', in there it is 'recall@5'"),
        ({"search_seed": 3}, r"^'search.seed' is 3, in there it is 0"),
        ({"trainer": {"max_epochs": 3}}, r"^'trainer.batch_size' is not there, in there it is 128"),
        (
            {"methods": [POPULARITY, replace(SEARCHED, space={"init_args.l2_weight": [1.0]}), FIXED]},
            r"^'models.factors.search.init_args.l2_weight' is \[1.0\], in there it is \[0.001, 0.1, 10.0\]",
        ),
    ],
)
def test_a_suite_that_changed_is_refused(suite: Suite, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_extends(suite.describe(), replace(suite, **change).describe(), "there")


def test_the_root_of_the_data_may_change(suite: Suite) -> None:
    moved = {"shop": replace(suite.datasets["shop"], init_args={**suite.datasets["shop"].init_args, "root": "there"})}
    assert replace(suite, datasets=moved).describe() == suite.describe()
    assert yaml.safe_load(yaml.safe_dump(suite.describe())) == suite.describe()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datasets": {}}, r"'datasets' must have at least one entry"),
        ({"methods": [POPULARITY, POPULARITY]}, "'methods' must have names that differ"),
        ({"methods": [SuiteMethod(Candidate(BPRMF, label="a/b"))]}, "'methods' has the name 'a/b', which must begin"),
        ({"methods": [SuiteMethod(Candidate(BPRMF, label=".."))]}, "'methods' has the name"),
        ({"methods": [SuiteMethod(Candidate(BPRMF, label="NaN"))]}, "which tables read as a missing value"),
        ({"seeds": [0, 0]}, r"'seeds' must be different numbers, at least one \(got \[0, 0\]\)"),
        ({"seeds": [-1]}, "'seeds' must not be negative"),
        ({"trials": 0}, "factors: has a search space: set the number of trials"),
        ({"monitor": "recall@20"}, "'monitor' must be one of recall@5"),
        ({"trainer": {"seed": 1}}, "unknown setting of the trainer 'seed'"),
        (
            {"methods": [replace(FIXED, published={"shops": {}})]},
            "'published' has the unknown data set 'shops'",
        ),
        ({"methods": [replace(FIXED, published={"shop": {"ndcg": 1}})]}, "'published' has the unknown metric 'ndcg'"),
        (
            {"methods": [SuiteMethod(SEARCHED.candidate, {"l2_weight": [1]})]},
            "'l2_weight' in the search space must",
        ),
        (
            {"methods": [SuiteMethod(SEARCHED.candidate, {"init_args.hidden_channels": [1]})]},
            "factors: 'hidden_channels' is searched and fixed in init_args",
        ),
        (
            {"methods": [SuiteMethod(SEARCHED.candidate, {"trainer_args.max_epochs": [1]})]},
            "factors: 'max_epochs' is searched, but the settings of the search fix it",
        ),
        (
            {"methods": [SuiteMethod(SEARCHED.candidate, {"trainer_args.batch_size": [8, 0]})]},
            r"factors: 'batch_size' must be positive \(got 0\)",
        ),
    ],
)
def test_suites_that_are_refused(suite: Suite, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(suite, **change)


def test_values_are_checked_on_the_data_before_any_training(suite: Suite, tmp_path: Path, trained: list[Any]) -> None:
    bad = SuiteMethod(SEARCHED.candidate, {"init_args.l2_weight": [0.1, -1.0]})
    with pytest.raises(ValueError, match=r"^factors on shop: 'l2_weight' must not be negative \(got -1.0\)$"):
        run_suite(replace(suite, methods=[FIXED, bad]), tmp_path / "new")
    assert not trained
    assert not (tmp_path / "new").exists()


def test_what_checking_finds(suite: Suite) -> None:
    facts = suite.check()["shop"]
    assert isinstance(facts, SuiteFacts)
    assert facts.protocol == "random"
    assert facts.untrained == {"Popularity"}


def test_shares_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert [slot.threads for slot in make_slots(4, None, None)] == [1, 1, 1, 1]
    (alone,) = make_slots(None, None, None)
    assert (alone.threads, alone.accelerator, alone.cuda_device) == (6, "auto", None)
    with pytest.raises(ValueError, match=r"'devices' must be among cpu \(got 'cuda:0'\)"):
        make_slots(None, None, ["cuda:0"])
    with pytest.raises(ValueError, match=r"'processes' must be positive \(got 0\)"):
        make_slots(0, None, None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    slots = make_slots(3, None, ["cuda:1", "cuda:0"])
    assert [(slot.threads, slot.accelerator, slot.cuda_device) for slot in slots] == [
        (2, "cuda", "7"),
        (2, "cuda", "5"),
        (2, "cuda", "7"),
    ]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert [slot.cuda_device for slot in make_slots(2, 1, None)] == ["0", "1"]


def _kill_a_child(path: Path) -> None:
    """Kills the first process that trains."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for child in multiprocessing.active_children():
            if (path / "shop" / "FREEDOM" / "seed-0" / "run.json").exists():
                os.kill(child.pid or 0, signal.SIGKILL)
                return
        time.sleep(0.001)


@pytest.mark.slow
def test_a_process_that_is_killed_fails_its_run_alone(suite: Suite, tmp_path: Path) -> None:
    method = replace(FIXED, candidate=replace(FIXED.candidate, trainer_args={"max_epochs": 500, "patience": 500}))
    suite = replace(suite, methods=[method, POPULARITY], seeds=[0])
    killer = threading.Thread(target=_kill_a_child, args=(tmp_path,))
    killer.start()
    result = run_suite(suite, tmp_path, devices=["cpu"])
    killer.join()
    assert result.failures == {"shop FREEDOM seed 0": "its process was ended by SIGKILL, for its memory perhaps"}
    assert result.runs["model"].tolist() == ["Popularity"]
    assert not multiprocessing.active_children()

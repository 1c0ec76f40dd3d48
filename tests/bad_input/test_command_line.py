"""Command lines beside the cases of tests/test_cli.py: one line, status 2, and nothing left behind."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyg_mmrec.cli import main

NUM_USERS, NUM_ITEMS = 60, 40
CPU = "--trainer.accelerator cpu --trainer.max_epochs 1 --trainer.batch_size 128"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Flags of a small shop."""
    root = tmp_path_factory.mktemp("shop")
    sizes = f"--dataset.num_users {NUM_USERS} --dataset.num_items {NUM_ITEMS} --dataset.interactions_per_user 8"
    return f"--dataset AttributeShop --dataset.root {root} {sizes}"


@pytest.fixture(scope="module")
def finished(shop: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    main(shlex.split(f"train --model BPRMF {shop} {CPU} --run_dir {folder}"))
    return folder


@pytest.fixture
def failure(failure: Callable[..., str]) -> Callable[[str], str]:
    """The shared fixture, for a command as one writes it."""
    return lambda line: failure(*shlex.split(line))


TRAIN = [
    ("BPRMF", "--model.hidden_channels 0", "'hidden_channels' must be positive (got 0)"),
    ("BPRMF", "--model.hidden_channels -5", "'hidden_channels' must be positive (got -5)"),
    ("BPRMF", "--model.hidden_channels 64.0", "'hidden_channels' must be int (got '64.0')"),
    ("BPRMF", "--model.hidden_channels true", "'hidden_channels' must be int (got 'True')"),
    ("BPRMF", f"--model.hidden_channels {10**20}", "'hidden_channels' must be at most 9223372036854775807"),
    ("BPRMF", "--model.l2_weight -1", "'l2_weight' must not be negative (got -1.0)"),
    ("BPRMF", "--model.l2_weight .inf", "'l2_weight' must be finite (got inf)"),
    ("LightGCN", "--model.num_layers -1", "'num_layers' must not be negative (got -1)"),
    ("FREEDOM", "--model.num_item_layers -1", "'num_item_layers' must not be negative (got -1)"),
    ("FREEDOM", "--model.graph_weights '{image: -1}'", "'graph_weights.image' must not be negative (got -1.0)"),
    ("FREEDOM", "--model.graph_weights '{imge: 1}'", "must name the graphs ['image', 'text'] (got ['imge'])"),
    ("FREEDOM", "--model.train_features maybe", "'train_features' must be bool (got 'maybe')"),
    ("SEA", "--model.temperature 0", "'temperature' must be positive (got 0.0)"),
    ("SEA", "--model.alignment cosine", "'alignment' must be 'solosim' or 'infonce' (got 'cosine')"),
    ("SEA", "--model.estimator_items 1", "'estimator_items' must be at least 2 (got 1)"),
    ("SEA", "--dataset.num_users x", "'num_users' must be int (got 'x')"),
    ("WithSEA", "--model.base VPBR", "'base': there is no model 'VPBR', did you mean 'VBPR'?"),
    ("WithSEA", "--model.base BPRMF", "'base' must have representations of single modalities"),
    ("WithSEA", "--model.base_args '{hiden: 3}'", "'base_args' do not fit VBPR: "),
    ("BPRMF", "--trainer.max_epochs 0", "'max_epochs' must be positive (got 0)"),
    ("BPRMF", "--trainer.monitor rcall@20", "'monitor' must be one of recall@10, "),
    ("BPRMF", f"--trainer.seed {10**22}", "'seed' must be at most 9223372036854775807"),
    ("BPRMF", "--evaluator.metrics [recall@41] --trainer.monitor recall@41", "asks for more than the 40 items"),
    ("BPRMF", "--evaluator.metrics [diversity@1] --trainer.monitor diversity@1", "k of at least 2"),
    ("BPRMF", "--evaluator.block_size 0", "'block_size' must be positive (got 0)"),
    ("BPRMF", "--evaluator.seed -1", "'seed' must not be negative (got -1)"),
    ("FREEDOM", "--graph.backend fais", "'graph.backend' must be 'torch' or 'faiss' (got 'fais')"),
    ("BPRMF", "--split RandomSplit --split.seed -1", "'seed' must not be negative (got -1)"),
    ("BPRMF", "--split ColdItemSplit --split.val 0.6 --split.test 0.6", "'val' + 'test' must be less than 1"),
]


@pytest.mark.parametrize(("model", "flags", "message"), TRAIN, ids=[f"{model} {flags}" for model, flags, _ in TRAIN])
def test_a_bad_argument_leaves_no_run_behind(
    model: str, flags: str, message: str, shop: str, tmp_path: Path, failure: Any
) -> None:
    assert message in failure(f"train --model {model} {shop} {CPU} {flags} --run_dir {tmp_path}/run")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_keeps_them(shop: str, tmp_path: Path, failure: Any) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    failure(f"train --model BPRMF {shop} {CPU} --model.hidden_channels 0 --run_dir {tmp_path}")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


FILES = [
    ("model: 3", "a model is chosen by its name (got 3); known are ABAE, BM3, BPRMF, "),
    ("model: [BPRMF]", "a model is chosen by its name (got ['BPRMF']); known are ABAE, BM3, BPRMF, "),
    ("model: {class_path: 3}", "a model is chosen by its name (got 3)"),
    ("model: &a [*a]", "a model is chosen by its name (got [[...]])"),
    ("model: {class_path: BPRMF, initargs: {}}", "has the unknown key 'initargs'; did you mean 'init_args'?"),
    ("model: {class_path: BPRMF, init_args: [1]}", "'model' in the configuration"),
    ("model: {class_path: BPRMF, init_args: {3: 3}}", "BPRMF has no argument '3'; known are hidden_channels"),
    ("model: {class_path: BPRMF, init_args: {num_users: 3}}", "BPRMF has no argument 'num_users'"),
    ("model: {class_path: BPRMF, init_args: {hidden_channels: 64.0}}", "'hidden_channels' must be int (got '64.0')"),
    ("model: {class_path: BPRMF, init_args: {hidden_channels: null}}", "'hidden_channels' must be an int (got None)"),
    ("model: {class_path: BPRMF, init_args: {hidden_channels: true}}", "'hidden_channels' must be int (got 'True')"),
    ("model: {class_path: BPRMF, init_args: {l2_weight: .nan}}", "'l2_weight' must be finite (got nan)"),
    ("model: BPRMF\nsplit: RandmSplit", "unknown split 'RandmSplit'; did you mean 'RandomSplit'?"),
    ("model: BPRMF\nsplit: {class_path: RandomSplit, init_args: {holdot: 2}}", "did you mean 'holdout'?"),
    ("model: BPRMF\ngraph: {kk: 3}", "unknown argument 'graph.kk'; did you mean '--graph.k'?"),
    ("model: BPRMF\nevaluator: {metric: [recall@20]}", "did you mean '--evaluator.metrics'?"),
    ("model: BPRMF\nrundir: x", "unknown argument 'rundir'; did you mean '--run_dir'?"),
    ("model: BPRMF\nresume: maybe", "'resume' must be True or False (got 'maybe')"),
    ("model: BPRMF\ntrainer: {max_epochs: true}", "'trainer.max_epochs' must be int (got 'True')"),
    ("3: 4", "Key must be a string, got: 3"),
]


@pytest.mark.parametrize(("text", "message"), FILES)
def test_a_bad_configuration_leaves_no_run_behind(
    text: str, message: str, shop: str, tmp_path: Path, failure: Any
) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    assert message in failure(f"train {shop} {CPU} --run_dir {tmp_path}/run --config {tmp_path}/bad.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


def test_code_in_a_configuration_is_never_run(shop: str, tmp_path: Path, failure: Any) -> None:
    (tmp_path / "bad.yaml").write_text(f"model: !!python/object/apply:os.system ['touch {tmp_path}/proof']")
    line = failure(f"train {shop} --config {tmp_path}/bad.yaml")
    assert line.startswith(f"cannot read the configuration '{tmp_path}/bad.yaml'")
    assert not (tmp_path / "proof").exists()


OTHERS = [
    ("recommend {run} --users 0 -1", "'users' must lie in 0..59 (got -1..0)"),
    (f"recommend {{run}} --users {10**22}", f"'users' must lie in 0..59 (got {10**22}..{10**22})"),
    ("recommend {run} --user 0", "unknown argument --user 0; did you mean '--users'?"),
    ("recommend {run} --k -1", "'k' must not be negative (got -1)"),
    ("evaluate {run} --evaluator.metrics []", "'metrics' must name at least one metric"),
    ("evaluate {run} extra", "unknown argument extra"),
    ("evaluate ''", "has no config.yaml: is it a folder that 'pyg-mmrec train' wrote?"),
    ("compare {shop} --models BPRMF --init_args '{{3: {{}}}}'", "a model is chosen by its name (got 3)"),
    ("compare {shop} --models BPRMF --init_args '{{BPRMF: 3}}'", "'init_args' must be dict (got '3')"),
    ("compare {shop} --models BPRMF --seeds -1", "'seeds' must not be negative (got -1)"),
    (f"compare {{shop}} --models BPRMF --seeds {10**22}", "'seeds' must be at most 9223372036854775807"),
    (
        "compare {shop} --models BPRMF --show recall@20 --evaluator.metrics [recall@20,recall@41]",
        "asks for more than the 40 items",
    ),
    ("compare {shop} --models BPRMF --show recall@20 --output {tmp}/no/runs.csv", "runs.csv cannot be written: name a"),
    ("compare {shop} --models bprmf", "unknown model 'bprmf'; known are ABAE, BM3, BPRMF, "),
]


@pytest.mark.parametrize(("template", "message"), OTHERS)
def test_the_other_commands(
    template: str, message: str, shop: str, finished: Path, tmp_path: Path, failure: Any
) -> None:
    assert message in failure(template.format(run=finished, shop=shop, tmp=tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def tiny(toy: Path) -> str:
    """Flags of a data set in files."""
    return f"--dataset MMRecDataset --dataset.root {toy.parent} --dataset.name toy"


METRICS = "--evaluator.metrics [recall@2] --trainer.monitor recall@2"
DATA = [
    ("VBPR", "--dataset.modalities []", "'in_channels' names no modality: VBPR needs item features"),
    ("FREEDOM", "--dataset.modalities []", "data['item'] has no features; store some as data['item'].x_<modality>"),
    ("SEA", "--dataset.modalities [text] --graph.k 2", "alignment needs two modalities or more (got text)"),
    ("WithSEA", "--dataset.modalities [text] --graph.k 2", "alignment needs two modalities or more (got text)"),
    ("VBPR", "--dataset.modalities [txt]", "its modalities: image, text; did you mean text?"),
    ("BPRMF", "--dataset.columns '{usr: a}'", "'columns' has the unknown key 'usr'; "),
    ("BPRMF", "--dataset.num_neighbors -1", "'num_neighbors' must not be negative (got -1)"),
    ("FREEDOM", "--graph.k 9", "'k' must be at most 4, the number of items (got 9)"),
    ("BPRMF", "--split TemporalSplit", "has no 'time'; store one per interaction or use RandomSplit"),
    ("BPRMF", "--evaluator.metrics [recall@5] --trainer.monitor recall@5", "asks for more than the 4 items"),
]


@pytest.mark.parametrize(("model", "flags", "message"), DATA)
def test_data_that_do_not_fit(
    model: str, flags: str, message: str, tiny: str, toy: Path, tmp_path: Path, failure: Any
) -> None:
    assert message in failure(f"train --model {model} {tiny} {CPU} {METRICS} {flags} --run_dir {tmp_path}/run")
    assert list(tmp_path.iterdir()) == [toy]

"""``pyg-mmrec train``."""

from __future__ import annotations

import os
import shlex
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning_fabric.utilities import rank_zero_only

from pyg_mmrec.benchmark import Candidate, split_hash, train_one
from pyg_mmrec.benchmark.prepare import Views
from pyg_mmrec.cli.parser import Parser, chosen, fail
from pyg_mmrec.cli.runs import CONFIG, SPLIT, check_split
from pyg_mmrec.cli.setup import make_views, trainer_args
from pyg_mmrec.models import ModelCard
from pyg_mmrec.training import RunFolder
from pyg_mmrec.typing import INTERACTS, ITEM
from pyg_mmrec.utils import Ids, modalities, num_users_items
from pyg_mmrec.utils.checks import check_flag
from pyg_mmrec.utils.files import write_json


def train(parser: Parser, parsed: Namespace) -> None:
    """Trains in the folder of the run, and writes what it came to."""
    run_dir = _run_dir(parsed)
    config = parser.instantiate(parsed)
    model, init_args = chosen("model", parsed.model)
    views, protocol, ids = make_views(parsed, [model], config)
    config.evaluator.check(views[1])
    facts = {"protocol": protocol, "split_hash": split_hash(views)}
    candidate, seed, arguments = Candidate(model, init_args), parsed.trainer.seed, trainer_args(config)
    before = [path.name for path in run_dir.iterdir()] if run_dir.exists() else None
    with RunFolder(run_dir).in_use() if _is_first_process() else nullcontext():
        if parsed.resume:
            check_split(run_dir, views)
        else:
            _write_start(run_dir, parser, parsed, facts)
        try:
            _, row = train_one(candidate, views, seed, run_dir=run_dir, resume=parsed.resume, **arguments)
        except KeyboardInterrupt:
            folder, path = shlex.quote(str(run_dir)), shlex.quote(str(run_dir / CONFIG))
            fail(f"stopped; go on with: pyg-mmrec train --config {path} --run_dir {folder} --resume")
        except (ValueError, ImportError, RuntimeError):
            _discard_start(run_dir, before)
            raise
        _write_result(run_dir, row | facts, ids)
        _write_card(run_dir, parsed, views, row | facts)


def _run_dir(parsed: Namespace) -> Path:
    """The folder of a run that may start or go on there."""
    check_flag(resume=parsed.resume)
    data, model = (parsed[key].class_path.rpartition(".")[2] for key in ("dataset", "model"))
    data = parsed.dataset.get("init_args", {}).get("name", data)
    path = Path(parsed.run_dir or f"runs/{data}-{model}-{parsed.trainer.seed}")
    if path.exists() and not path.is_dir():
        fail(f"'{path}' is not a folder: choose another --run_dir")
    above = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        fail(f"'{path}' cannot be written, because '{above}' is not a folder to write to: choose another --run_dir")
    if RunFolder.holds_run(path) and not parsed.resume:
        fail(f"'{path}' already holds a run: add --resume to go on with it or choose another --run_dir")
    if parsed.resume and not RunFolder.holds_run(path):
        fail(f"'{path}' holds no run to go on with: start one without --resume")
    return path


@rank_zero_only
def _is_first_process() -> bool:
    return True  # the others get None


@rank_zero_only
def _write_start(run_dir: Path, parser: Parser, parsed: Namespace, facts: dict[str, Any]) -> None:
    """Writes what the run is made from; of several processes the first does."""
    parser.save(parsed, str(run_dir / CONFIG), overwrite=True)
    write_json(run_dir / SPLIT, facts)


@rank_zero_only
def _discard_start(run_dir: Path, before: list[str] | None) -> None:
    """Removes what was written for a run that was refused before its first epoch ended; None: all of the folder."""
    if RunFolder.holds_run(run_dir) or (run_dir / "history.csv").exists():
        return
    if before is None:
        shutil.rmtree(run_dir, ignore_errors=True)
        return
    for path in run_dir.iterdir():
        if path.name not in before and path.is_file():
            path.unlink()


@rank_zero_only
def _write_result(run_dir: Path, row: dict[str, Any], ids: Ids | None) -> None:
    """Writes and prints what the run came to, the ids beside the model; of several processes the first does."""
    if ids is not None:
        ids.save(RunFolder(run_dir).model)
    write_json(run_dir / "result.json", row)
    names = [key.removeprefix("val_") for key in row if key.startswith("val_")]
    print(f"{'metric':>14}  {'validation':>10}  {'test':>10}   (best epoch {row['best_epoch']} of {row['num_epochs']})")
    for name in names:
        print(f"{name:>14}  {row[f'val_{name}']:>10.4f}  {row[f'test_{name}']:>10.4f}")
    print(f"run folder: {run_dir}")


@rank_zero_only
def _write_card(run_dir: Path, parsed: Namespace, views: Views, row: dict[str, Any]) -> None:
    """Writes what the saved model says about itself."""
    cls, arguments = chosen("dataset", parsed.dataset)
    num_users, num_items = num_users_items(views[0])
    parts = [view[INTERACTS].edge_label_index.size(1) for view in views]
    data = {"dataset": cls.__name__} | {key: arguments[key] for key in ("name",) if key in arguments}
    data |= {"num_users": num_users, "num_items": num_items, "modalities": modalities(views[0])}
    data |= dict(zip(("train", "validation", "test"), parts, strict=True)) | {"split_hash": row["split_hash"]}
    if "provenance" in views[0][ITEM]:
        data["features"] = views[0][ITEM].provenance
    metrics = {key: value for key, value in row.items() if key.startswith(("val_", "test_"))}
    protocol = f"{row['protocol']}; seed {row['seed']}, epoch {row['best_epoch']} selected on validation, tested once"
    ModelCard(data, metrics, protocol, parsed.licence).save(run_dir / "model")

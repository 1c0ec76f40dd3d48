"""The folder of a run: what the command line keeps there beside the training's own files, and how it is read."""

from __future__ import annotations

from pathlib import Path

from pyg_mmrec.benchmark import split_hash
from pyg_mmrec.benchmark.prepare import Views
from pyg_mmrec.cli.parser import check_names
from pyg_mmrec.cli.setup import make_views, train_parser
from pyg_mmrec.models import Recommender
from pyg_mmrec.utils import Ids
from pyg_mmrec.utils.ids import IDS

#: What the command was asked for.
CONFIG = "config.yaml"
#: The protocol and the hash of the split.
SPLIT = "split.json"


def load_run(run_dir: Path) -> tuple[Views, Recommender, Ids | None]:
    """The views that a run trained on, made again from its configuration, its best model and the own ids."""
    path = run_dir / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"'{run_dir}' has no {CONFIG}: is it a folder that 'pyg-mmrec train' wrote?")
    folder = run_dir / "model"
    if not folder.is_dir():
        raise FileNotFoundError(f"'{run_dir}' has no finished model: go on with 'pyg-mmrec train ... --resume'")
    check_names(["--config", str(path)])
    train = train_parser()
    parsed = train.parse_args(["--config", str(path)])
    try:
        model = Recommender.from_pretrained(folder)
    except TypeError as error:
        raise ValueError(f"'{folder / 'config.json'}' does not hold the arguments of its model: {error}") from None
    views = make_views(parsed, [type(model)], train.instantiate(parsed)).views
    check_split(run_dir, views)
    return views, model, Ids.load(folder) if (folder / IDS).is_file() else None


def check_split(run_dir: Path, views: Views) -> None:
    """Refuses other interactions than a run started with."""
    if split_hash(views) not in (run_dir / SPLIT).read_text(encoding="utf-8"):
        raise ValueError(f"the interactions or their split are not those of the run in '{run_dir}': start a new run")

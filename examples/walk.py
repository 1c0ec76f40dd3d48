"""From three tables and a folder of images to a served recommender.

python examples/walk.py                                    # a made-up catalogue, encoders that nobody trained
python examples/walk.py --folder MINE --text_model FOLDER --image_model FOLDER
"""

from __future__ import annotations

import argparse
import csv
import json
import socket
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import uvicorn
from made_catalogue import write_catalogue, write_image_model, write_text_model

from pyg_mmrec.datasets import from_tables
from pyg_mmrec.models import FREEDOM, ModelCard, Recommender
from pyg_mmrec.retrieval import Retriever
from pyg_mmrec.serve import Catalogue, create_app
from pyg_mmrec.training import Trainer
from pyg_mmrec.transforms import ModalKNNGraph, RandomSplit
from pyg_mmrec.utils import Ids


def arguments() -> argparse.Namespace:
    """What the command line says; without a catalogue or encoders of one's own, made-up ones are written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "pyg_mmrec_walk"))
    parser.add_argument("--text_model", help="folder or name of a model of sentence-transformers")
    parser.add_argument("--image_model", help="folder or name of a model of timm")
    parser.add_argument("--epochs", type=int, default=30)
    args = parser.parse_args()
    made = args.folder / "made"
    if not (args.folder / "interactions.csv").exists():
        write_catalogue(args.folder, num_users=300, num_items=200)
    if args.text_model is None:
        with (args.folder / "items.csv").open(newline="", encoding="utf-8") as file:
            write_text_model(made / "text_model", [row["description"] for row in csv.DictReader(file)])
    if args.image_model is None:
        write_image_model(made / "image_model")
    args.text_model, args.image_model = args.text_model or made / "text_model", args.image_model or made / "image_model"
    return args


@contextmanager
def running(app: object) -> Iterator[str]:
    """Serves on a free port of this machine, and stops at the end; gives the address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def main() -> None:
    """Reads, encodes, trains, tests, saves, recommends, serves."""
    args = arguments()
    folder, saved = args.folder, args.folder / "model"

    # Read and encode
    data, ids = from_tables(
        folder / "interactions.csv",
        folder / "items.csv",
        folder / "users.csv",
        text_encoder=args.text_model,
        image_encoder=args.image_model,
        image_size=64,
        words={"min_count": 1},
    )
    print(data)

    # Train and test
    data = ModalKNNGraph(k=10)(data)
    train_data, val_data, test_data = RandomSplit(seed=0)(data)
    torch.manual_seed(0)
    model = FREEDOM.from_data(train_data)
    trainer = Trainer(max_epochs=args.epochs, batch_size=512, learning_rate=3e-3)
    result = trainer.fit(model, train_data, val_data, test_data)
    print(f"test recall@20 {result.test['recall@20']:.4f}, of epoch {result.best_epoch}")

    # Save
    facts = {"name": "a made-up shop", "num_items": model.num_items, "features": data["item"].provenance}
    metrics = {f"test_{name}": value for name, value in result.test.items()}
    model.save_pretrained(saved, ModelCard(facts, metrics, protocol="random, selected on validation", licence="mit"))
    ids.save(saved)

    # Recommend
    model, ids, card = Recommender.from_pretrained(saved), Ids.load(saved), ModelCard.load(saved)
    customers = ids.of("user", [0, model.num_users - 1])
    _, items = model.recommend(data, ids.nodes("user", customers), k=3, fallback="popular")
    for customer, row in zip(customers, items, strict=True):
        print(f"{customer}: {', '.join(map(str, ids.of('item', row[row >= 0])))}")

    # Serve
    app = create_app(Catalogue(Retriever(model, data, ids, fallback="popular"), card))
    with running(app) as address:
        with urllib.request.urlopen(f"{address}/recommendations?user={customers[0]}&k=3", timeout=60) as answer:
            print("the service:", json.load(answer))


if __name__ == "__main__":
    main()

"""Which of SEA's loss terms moves the transform that all of them read, T_m.

    python benchmarks/sea_gradients.py --root DATA --dataset tiktok

Trains SEA with the largest and the smallest weights of the search in ``accuracy.yaml`` and writes, after some epochs,
each term's value, the norm of its gradient for the weights of the transforms and its cosine with that of BPR, to
``results/sea_gradients_<dataset>.csv``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
import yaml
from accuracy import FOLDER
from tasks import load
from torch import Tensor

from pyg_mmrec.benchmark import default_split, prepare
from pyg_mmrec.loader import TripletLoader
from pyg_mmrec.models import SEA
from pyg_mmrec.utils import with_operators

EPOCHS = (1, 4, 13)


def gradient(loss: Tensor, parameters: list[Tensor]) -> Tensor:
    """All gradients in one vector, zeros where there is none."""
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return torch.cat(
        [
            torch.zeros(part.numel()) if grad is None else grad.flatten()
            for part, grad in zip(parameters, found, strict=True)
        ]
    )


def main() -> None:
    """Trains, measures, writes and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True, help="folder of the data sets")
    parser.add_argument("--dataset", required=True, help="name of a data set, or 'shop' for the built-in one")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=FOLDER / "results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    spec = yaml.safe_load((FOLDER / "accuracy.yaml").read_text())["SEA-a"]
    data = load(args.root, args.dataset).data
    train = with_operators(prepare(data, [SEA], default_split(data))[0])
    rows = []
    for choose in (max, min):
        weights = {name: choose(values) for name, values in spec["grid"].items()}
        torch.manual_seed(0)
        model = SEA.from_data(train, **spec["args"], **weights)
        transforms = [part for name, part in model.named_parameters() if name.startswith("transform.")]
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        loader = TripletLoader(train, spec["trainer"]["batch_size"], seed=0)
        for epoch in range(max(EPOCHS)):
            for batch in loader.epoch(epoch):
                terms = model.loss(train, batch)
                optimizer.zero_grad()
                torch.stack(list(terms.values())).sum().backward()
                optimizer.step()
            if epoch + 1 in EPOCHS:
                terms = model.loss(train, batch)
                grads = {name: gradient(term, transforms) for name, term in terms.items()}
                for name, term in terms.items():
                    facts = {"norm": float(grads[name].norm()), "value": float(term.detach())}
                    facts["cosine_with_bpr"] = float(F.cosine_similarity(grads[name], grads["bpr"], dim=0))
                    rows.append({**weights, "epochs": epoch + 1, "term": name, **facts})
    table = pd.DataFrame(rows)
    table.to_csv(args.results / f"sea_gradients_{args.dataset}.csv", index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()

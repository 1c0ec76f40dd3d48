"""Are items that came after training recommended? Recall on them, of models that are extended without training.

    python benchmarks/cold_items.py --shops 1 2 3 4 5
    python benchmarks/cold_items.py --dataset tiktok --root DATA --shops 1 2 3
    python benchmarks/cold_items.py --dataset ml1m --root DATA --shops 1

A fifth of the items (``ColdItemSplit``) and all that is known of them is kept from training and from the choice of the
epoch, which is by validation on the other items. Then each model is extended by the new items
(``Recommender.extend``), and the users' interactions with them are graded, ranked among the whole catalogue and among
the new items alone; without links and with ``LinkColdItems`` of several numbers, which raises new items in the lists.
What that costs is the test recall of the other items in the larger catalogue. ``random`` is what a random order
would come to. Each training is a row of ``results/cold_items_runs.csv``; what is there already is not repeated.
``results/cold_items.csv`` has means and standard errors over the shops (over the draws of new items for a data set in
files), and how many times random the recall is.

On ``ml1m`` the features are 128 principal components each of the posters' pixels and of the words of titles and plots
(weighted by TF-IDF), and 2,000 users are drawn. Data sets in files are trained in batches of 8192.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.benchmark import Candidate, Ledger, prepare, train_one
from pyg_mmrec.benchmark.prepare import Views, with_user_graphs
from pyg_mmrec.datasets import AttributeShop, MMRecDataset, PosterMovies
from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.models import BM3, BPRMF, FREEDOM, MGCN, SEA, VBPR, DRepMRec, LightGCN
from pyg_mmrec.transforms import ColdItemSplit, LinkColdItems, ModalKNNGraph, RandomSplit
from pyg_mmrec.typing import INTERACTS, ITEM, USER, similar
from pyg_mmrec.utils import num_users_items, similar_modalities, to_csr

FOLDER = Path(__file__).parent / "results"
MODELS = [BPRMF, LightGCN, VBPR, BM3, MGCN, FREEDOM, SEA, DRepMRec]
EVEN = {"image": 0.5, "text": 0.5}
SHOP_ARGS: dict[str, dict[str, Any]] = {
    "LightGCN": {"num_layers": 2},
    "FREEDOM": {"graph_weights": EVEN},
    "SEA": {"graph_weights": EVEN},
    "DRepMRec": {"modality_weights": EVEN},
}
FILE_ARGS: dict[str, dict[str, Any]] = {
    "LightGCN": {"num_layers": 2},
    "SEA": {"align_items": 2048, "estimator_items": 1000},
}
SHOP_TRAINER = {"batch_size": 512, "learning_rate": 2e-3}
FILE_TRAINER = {"batch_size": 8192, "learning_rate": 2e-3, "patience": 10}
MOVIE_USERS, MOVIE_CHANNELS = 2000, 128
LINKS = [0, 20, 40]
METRICS = ["recall@20", "ndcg@20"]
KEY = ["dataset", "shop", "model"]
GRAPH = ModalKNNGraph(k=10)


def open_data(root: str, dataset: str, shop: int) -> HeteroData:
    """The whole data without item graphs."""
    if dataset == "shop":
        folder = Path(tempfile.gettempdir(), f"pyg_mmrec_shop_{shop}")
        return AttributeShop(str(folder), seed=shop)[0]
    if dataset == "ml1m":
        return movies(root)
    data = MMRecDataset(root, dataset)[0]
    for name in similar_modalities(data):
        del data[similar(ITEM, name)]
    return data


def movies(root: str) -> HeteroData:
    """The movies with features of posters and words in place of these."""
    dataset = PosterMovies(root, num_users=MOVIE_USERS)
    data = dataset[0]
    item = data[ITEM]
    pixels = item.image.flatten(1).numpy() / 255
    texts = [dataset.text(number) for number in range(item.num_nodes)]
    words = TfidfVectorizer(stop_words="english", sublinear_tf=True).fit_transform(texts)
    item.x_image = torch.from_numpy(PCA(MOVIE_CHANNELS, random_state=0).fit_transform(pixels)).float()
    item.x_text = torch.from_numpy(TruncatedSVD(MOVIE_CHANNELS, random_state=0).fit_transform(words)).float()
    if "mask_image" in item:
        item.x_image[~item.mask_image] = 0
    for name in ("image", "tokens", "mask_tokens"):
        if name in item:
            del item[name]
    del data["word"]
    return data


@cache
def views_of(root: str, dataset: str, shop: int) -> tuple[Views, HeteroData]:
    """The split data without the new items; and all items, the new ones last, with interactions with these to grade."""
    data = open_data(root, dataset, shop)
    item = data[INTERACTS].edge_index[1]
    new = torch.zeros(data[ITEM].num_nodes, dtype=torch.bool)
    new[item[ColdItemSplit(val=0.01, test=0.2, seed=shop).labels(data) == 2]] = True
    num_known = int((~new).sum())
    whole = data.subgraph({ITEM: torch.cat([(~new).nonzero().view(-1), new.nonzero().view(-1)])})
    known = whole.subgraph({ITEM: torch.arange(num_known)})
    views = prepare(known, MODELS, RandomSplit(seed=shop), GRAPH)
    return views, grade_on_new(whole, views[0], num_known)


def grade_on_new(whole: HeteroData, train: HeteroData, num_known: int) -> HeteroData:
    """A view of all items in which messages pass over the train edges and interactions with new items are graded."""
    view = copy.copy(whole)
    user, item = whole[INTERACTS].edge_index
    edges = train[INTERACTS].edge_index
    has_train = torch.bincount(edges[0], minlength=whole[USER].num_nodes) > 0
    del view[INTERACTS]
    view[INTERACTS].edge_index = edges
    view[INTERACTS].edge_label_index = torch.stack([user, item])[:, (item >= num_known) & has_train[user]]
    view[USER].seen_ptr, view[USER].seen_item = train[USER].seen_ptr, train[USER].seen_item
    return with_user_graphs(GRAPH(view), GRAPH)


def among_new(view: HeteroData, num_known: int) -> HeteroData:
    """The view in which new items alone are ranked."""
    view, num_users = copy.copy(view), view[USER].num_nodes
    known = torch.arange(num_known).repeat(num_users)
    view[USER].seen_ptr, view[USER].seen_item = to_csr(
        torch.arange(num_users).repeat_interleave(num_known), known, num_users
    )
    return view


def random_recall(view: HeteroData, k: int = 20) -> float:
    """The mean over graded users of the recall that a random order is expected to have."""
    user: Tensor = view[INTERACTS].edge_label_index[0].unique()
    left = num_users_items(view)[1] - view[USER].seen_ptr.diff()[user]
    return float((k / left.double()).clamp_max(1).mean())


def train(root: str, dataset: str, shop: int, candidate: Candidate, trainer: dict[str, Any]) -> dict[str, Any]:
    """The row of a training."""
    views, view = views_of(root, dataset, shop)
    model, row = train_one(candidate, views, shop, progress=False, **trainer)
    num_known, extended, evaluator = model.num_items, model.extend(view), Evaluator(METRICS)
    others = copy.copy(view)
    others[INTERACTS].edge_label_index = views[2][INTERACTS].edge_label_index
    graded = {"new": view, "among new": among_new(view, num_known), "others": others}
    row |= {f"random, {name}": random_recall(part) for name, part in graded.items()}
    for (name, part), links in itertools.product(graded.items(), LINKS):
        linked = LinkColdItems(links)(part) if links else part
        row |= {f"{name} {metric}, {links}": value for metric, value in evaluator(extended, linked).items()}
    print(dataset, shop, candidate.name, {k: round(v, 4) for k, v in row.items() if "recall@20, " in k}, flush=True)
    return row


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Means and standard errors by model, and how many times random."""
    kinds = ("new", "among new")
    columns = ["test_recall@20", *(name for name in runs if name.startswith((*kinds, "others", "random")))]
    groups = runs.groupby("model", sort=False)[columns]
    table = pd.concat([groups.mean(), groups.sem().add_suffix(", se")], axis=1)
    for kind, links in itertools.product(kinds, LINKS):
        table[f"{kind}, times random, {links}"] = table[f"{kind} recall@20, {links}"] / table[f"random, {kind}"]
    return table.round(4)


def main() -> None:
    """Trains what is missing, writes and prints the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="shop", help="'shop', or the name of a data set in 'root'")
    parser.add_argument("--root", default="", help="folder of the data sets in files")
    parser.add_argument("--shops", nargs="+", type=int, default=[1, 2, 3, 4, 5], help="seeds of shops and draws")
    parser.add_argument("--models", nargs="+", default=[model.__name__ for model in MODELS])
    parser.add_argument("--max_epochs", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=FOLDER)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    built_in = args.dataset == "shop"
    trainer = {**(SHOP_TRAINER if built_in else FILE_TRAINER), "max_epochs": args.max_epochs}
    arguments = SHOP_ARGS if built_in else FILE_ARGS
    candidates = [Candidate(model, arguments.get(model.__name__, {})) for model in MODELS]
    ledger, rows = Ledger(args.results / "cold_items_runs.csv", [*KEY, "trainer"]), []
    chosen = [candidate for candidate in candidates if candidate.name in args.models]
    for shop, candidate in itertools.product(args.shops, chosen):
        key = dict(zip(KEY, (args.dataset, shop, candidate.name), strict=True)) | {"trainer": trainer}
        rows.append(ledger.run(key, partial(train, args.root, args.dataset, shop, candidate, trainer)))
    table = summary(pd.DataFrame(rows))
    name = "cold_items" if args.dataset == "shop" else f"cold_items_{args.dataset}"
    table.to_csv(args.results / f"{name}.csv")
    shown = [name for name in table if "recall@20" in name or "times" in name]
    print(table[[name for name in shown if not name.endswith("se")]].T.to_string())


if __name__ == "__main__":
    main()

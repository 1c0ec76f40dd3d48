"""Writes docs/benchmarks.md and docs/papers.md from the files in results/.

python benchmarks/report.py
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import papers
import report_speed
from report_tables import RESULTS, markdown, with_facts

FOLDER = Path(__file__).parent
LINKS = [0, 20, 40]
METRICS = ["recall@10", "recall@20", "ndcg@10", "ndcg@20"]
SAMPLED_METRICS = ["gauc", "ndcg@10", "full_recall@20"]
TITLES = {"recall@20": "Recall@20", "gauc": "group AUC"}

HEAD = """# Benchmarks

All figures come from the files in `benchmarks/results`; `python benchmarks/report.py` writes this page from them.

## Accuracy

Full ranking over all items, train interactions masked (protocol `mmrec`), mean ± sample standard deviation over seeds
on the test part. Each model's grid (`benchmarks/accuracy.yaml`) is searched with one seed on validation Recall@20; the
test part is read only for the chosen point. There was no search on `microlens50k`: its values are those that the search
on a smaller set chose (`carried_over` in the same file), and all models are trained there with larger batches, a
higher learning rate and validation after every fifth epoch. Published figures are other authors' and were selected in
their own way. `FREEDOM-graph` is FREEDOM without modal losses: it reads the item graphs alone. On `baby` the item
graphs are those of the published features; the features themselves are spectral stand-ins for them, so models that read
features (VBPR, FREEDOM with modal losses, SEA) are not comparable with published figures there. `SEA-none` is SEA
without alignment and distancing; on `baby` SEA aligns among 2,048 items drawn for each batch, on `tiktok` among all.
`VBPR-large-batches` and `FREEDOM-large-batches` are trained like `VBPR+SEA` and `FREEDOM+SEA`, to be compared with
these, and `VBPR-bf16` and `FREEDOM-bf16` are the same in mixed precision. `LightGCN-large-batches` and
`LightGCN-sampled`, with ten sampled neighbours, are the two ways of training on large graphs.
"""

SAMPLED = """
On `office` models read the words of titles and descriptions, on `ml1m`, 1,000 users of MovieLens-1M, those of titles
and plots, posters, and the genres of 5 % of the movies; LightGCN, DeepFM and the like read ids and categories. `gauc`,
the group AUC weighted by the users' interactions, and NDCG@10 rank each positive among 100 sampled items,
`full_recall@20` ranks all items once; the search is on validation group AUC. The published figures come from
candidates that the paper does not describe, and from images too.
"""

SHOP = """
## Do features help?

On the built-in shop the answer is known: preferences were drawn from the items' attributes. Test Recall@20 on five
shops with seeds that no setting was chosen on, means over three training seeds; `gain` is FREEDOM's over LightGCN with
its standard error, `shuffled` the same with the items' features shuffled. Popularity is the floor and an oracle that
knows the planted preferences the ceiling. In the last row the standard errors are over the shops.

    python benchmarks/shop.py
"""

COLD = """
## New items

Test Recall@20 on a fifth of the items that training never saw: the model is extended by them without training
(`Recommender.extend`), without links to known items and with (`LinkColdItems`), and they are ranked among the whole
catalogue; in brackets how many times a random order. `among new`: ranked among themselves, without links. `others`: the
recall of the other items in the larger catalogue, which links cost something.
"""
COLD_ON = {
    "cold_items": "On five built-in shops: `python benchmarks/cold_items.py`",
    "cold_items_tiktok": (
        "On TikTok, means over three draws of new items: "
        "`python benchmarks/cold_items.py --dataset tiktok --root DATA --shops 1 2 3`"
    ),
    "cold_items_ml1m": (
        "On 2,000 users of MovieLens-1M, with 128 principal components each of posters and of the words of titles and "
        "plots, one draw: `python benchmarks/cold_items.py --dataset ml1m --root DATA --shops 1`"
    ),
}

MISSING = """
## Missing modalities

Test Recall@20 on three shops, ± the standard error over them, where that share of the items lacks the image, and as
many, drawn apart, the text: masked, or imputed from what the same users have (`ImputeFeatures`). SEA aligns samples of
512 items.

    python benchmarks/missing_modality.py
"""

SEA = """
## SEA

A training step at the sizes above (features 4096 and 384 wide, all 7,050 items in every step); `plain` builds the
transformed features that `composed` does without. {threads} threads, torch {torch}, {machine}, {date}:

    OMP_WAIT_POLICY=PASSIVE python benchmarks/sea_speed.py
"""

SEA_SHOP = """
Test Recall@20 on shops of five seeds, with both modules and without; `shuffled` deals the texts out anew to the items,
so that the modalities share nothing. Gains are paired; the last row is their standard error over the shops.

    python benchmarks/sea_evidence.py
"""

SEA_PROBES = """
Accuracy of linear probes of the planted attributes from the heads of both parts, means over the shops. Colour and shape
show in both modalities, texture in the image only, material and size in the text only. `control` is the same model
before training. `benchmarks/results/sea_probes.csv` has the principal components of the halves as well, and
`sea_information.csv` the bounds of the mutual information between the parts.
"""


def accuracy() -> str:
    """One table for each data set."""
    text = HEAD + accuracy_tables(pd.read_csv(RESULTS / "accuracy.csv"), METRICS)
    path = RESULTS / "sampled.csv"
    return text + (SAMPLED + accuracy_tables(pd.read_csv(path), SAMPLED_METRICS) if path.is_file() else "")


def accuracy_tables(table: pd.DataFrame, metrics: list[str]) -> str:
    """Test results over seeds, a table for each data set, with the published value of the metric that selected."""
    text = ""
    monitor = next(name.removeprefix("published_") for name in table if name.startswith("published_"))
    for dataset, part in table.groupby("dataset", sort=False):
        rows = []
        for _, row in part.iterrows():
            cells = [
                f"{row[name]:.4f}" + ("" if pd.isna(row[f"{name}_std"]) else f" ± {row[f'{name}_std']:.4f}")
                for name in metrics
            ]
            known = not pd.isna(row[f"published_{monitor}"])
            published = f"{row[f'published_{monitor}']:.4f} ({row['published_where']})" if known else ""
            arguments = " ".join(f"`{row[key]}`" for key in ("init_args", "trainer_args") if row[key] != "{}")
            rows.append([row["model"], *cells, f"{row['seeds']:.0f}", arguments, published])
        header = ["model", *metrics, "seeds", "arguments", f"published {TITLES.get(monitor, monitor)}"]
        text += f"\n### {dataset}\n\n{markdown(rows, header)}"
        text += f"\n    python benchmarks/accuracy.py --root DATA --dataset {dataset}"
        text += "\n" if monitor == "recall@20" else f" --models {' '.join(part['model'])}\n"  # others read no content
    return text


def shop() -> str:
    """FREEDOM against LightGCN on fresh shops."""
    table = pd.read_csv(RESULTS / "shop.csv")
    models = ["Popularity", "LightGCN", "FREEDOM", "FREEDOM, shuffled features", "PlantedOracle"]
    rows = [
        [
            str(row["shop"]),
            *(f"{row[name]:.4f}" for name in models),
            *(f"{row[name]:+.4f} ± {row[f'{name}_se']:.4f}" for name in ("gain", "shuffled_gain")),
        ]
        for _, row in table.iterrows()
    ]
    return f"{SHOP}\n{markdown(rows, ['shop', *models, 'gain', 'shuffled'])}"


def cold() -> str:
    """Recall on items that training never saw."""
    header = ["model", *(f"new, {n} links" for n in LINKS), "among new", *(f"others, {n} links" for n in LINKS)]
    parts = [COLD]
    for name, title in COLD_ON.items():
        path = RESULTS / f"{name}.csv"
        if path.is_file():
            parts.append(f"\n{title}\n\n{markdown(cold_rows(pd.read_csv(path)), header)}")
    return "".join(parts)


def cold_rows(table: pd.DataFrame) -> list[list[str]]:
    """A line of the table for each model."""
    rows = []
    for _, row in table.iterrows():
        new = [f"{row[f'new recall@20, {n}']:.3f} ({row[f'new, times random, {n}']:.1f})" for n in LINKS]
        among = f"{row['among new recall@20, 0']:.3f} ({row['among new, times random, 0']:.1f})"
        rows.append([row["model"], *new, among, *(f"{row[f'others recall@20, {n}']:.3f}" for n in LINKS)])
    return rows


def missing() -> str:
    """What is left where items lack modalities."""
    path = RESULTS / "missing_modality.csv"
    if not path.is_file():
        return ""
    table = pd.read_csv(path)
    rates = sorted(table["rate"].unique())
    rows = []
    for (model, imputed), part in table.groupby(["model", "imputed"], sort=False):
        found = part.set_index("rate")
        cells = [f"{found.loc[rate, 'recall@20']:.4f} ± {found.loc[rate, 'se']:.4f}" for rate in rates]
        rows.append([model, "masked" if imputed == "none" else f"imputed, {imputed}", *cells])
    return f"{MISSING}\n{markdown(rows, ['model', 'missing features', *(f'{rate:.0%} missing' for rate in rates)])}"


def sea() -> str:
    """SEA's step, its gain on the shops and what its parts hold."""
    step = pd.read_csv(RESULTS / "sea_speed.csv")
    rows = [
        [
            row["variant"],
            row["form"],
            f"{row['seconds']:.2f} s",
            f"{row['cpu_seconds']:.2f} s",
            f"{row['peak_gib']:.2f} GiB",
            "" if pd.isna(row["plain_over_composed"]) else f"{row['plain_over_composed']:.1f}",
        ]
        for _, row in step.iterrows()
    ]
    header = ["variant", "form", "wall", "CPU", "peak memory", "plain over this"]
    return f"{with_facts(SEA, step)}\n{markdown(rows, header)}{SEA_SHOP}\n{sea_shop()}"


def sea_shop() -> str:
    """Gains by shop, then probes."""
    table = pd.read_csv(RESULTS / "sea_shop.csv")
    columns = [name for name in table.columns if name != "shop"]
    gains = markdown(
        [[str(row["shop"]), *(f"{row[name]:.4f}" for name in columns)] for _, row in table.iterrows()],
        ["shop", *columns],
    )
    probes = pd.read_csv(RESULTS / "sea_probes.csv")
    probes = probes[probes["view"] == "head"]
    wide = probes.pivot_table(
        index=["variant", "model", "modality", "attribute"], columns="part", values="accuracy"
    ).reset_index()
    wide = wide.merge(probes.groupby("attribute")["chance"].mean(), on="attribute")
    rows = [
        [
            *(str(row[name]) for name in ("variant", "model", "modality", "attribute")),
            *(f"{row[name]:.2f}" for name in ("generic", "unique", "chance")),
        ]
        for _, row in wide.sort_values(["variant", "model", "modality", "attribute"]).iterrows()
    ]
    header = ["variant", "model", "modality", "attribute", "generic", "unique", "chance"]
    return f"{gains}{SEA_PROBES}\n{markdown(rows, header)}"


def page() -> str:
    """docs/benchmarks.md."""
    speed = [report_speed.speed, report_speed.devices, report_speed.models]
    speed += [report_speed.scaling, report_speed.memory, report_speed.neighbors, report_speed.peers]
    last = [report_speed.drepmrec, report_speed.mmil, report_speed.retrieval]
    return "".join(section() for section in (accuracy, shop, cold, missing, *speed, sea, *last))


def main() -> None:
    """Writes the pages."""
    (FOLDER.parent / "docs" / "benchmarks.md").write_text(page(), encoding="utf-8")
    papers.PAGE.write_text(papers.page(), encoding="utf-8")


if __name__ == "__main__":
    main()

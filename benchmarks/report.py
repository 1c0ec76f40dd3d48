"""Writes docs/benchmarks.md and docs/papers.md from the files in results/.

python benchmarks/report.py
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import papers

FOLDER = Path(__file__).parent
SPREAD = ["seconds", "least", "most"]
METRICS = ["recall@10", "recall@20", "ndcg@10", "ndcg@20"]

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
these, and `VBPR-bf16` and `FREEDOM-bf16` are the same in mixed precision.
"""

SHOP = """
## Do features help?

On the built-in shop the answer is known: preferences were drawn from the items' attributes. Test Recall@20 on five
shops with seeds that no setting was chosen on, means over three training seeds; `gain` is FREEDOM's over LightGCN with
its standard error, `shuffled` the same with the items' features shuffled. Popularity is the floor and an oracle that
knows the planted preferences the ceiling. In the last row the standard errors are over the shops.

    python benchmarks/shop.py
"""

MODELS = """
An epoch of the baselines on graphs at these sizes: what comes before the first batch (a graph that is pruned or
searched anew) and 58 steps, with frozen features and default arguments. {threads} threads, torch {torch}, {machine},
{date}:

    OMP_WAIT_POLICY=PASSIVE python benchmarks/models_speed.py
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

DREPMREC = """
## DRepMRec

A training step and the 58 steps of an epoch at the sizes above, by how the targets of the similarity-supervised signal
are found; `error` is the root mean square by which the cosines of a batch's users differ from the direct ones.
{threads} threads, torch {torch}, {machine}, {date}:

    OMP_WAIT_POLICY=PASSIVE python benchmarks/drepmrec_speed.py
"""

MMIL = """
## MMIL

A training step and the steps of an epoch at the sizes above, in batches of 512 users; in the last row of 12,000 items,
one user has 10,000. {threads} threads, torch {torch}, {machine}, {date}:

    OMP_WAIT_POLICY=PASSIVE python benchmarks/mmil_speed.py
"""

SPEED = """
## Speed

Amazon Baby's sizes (19,445 users, 7,050 items, 118,551 train interactions), width 64, batches of 2048, random data;
medians on {threads} threads, torch {torch}, {machine}, {date}:

    OMP_WAIT_POLICY=PASSIVE python benchmarks/speed.py

Propagation is one layer over the bipartite graph, forward and backward.
"""

DEVICE = """
### Hot loops on {machine}

Against rates of the same device in the same run, bytes and operations counted as if nothing stayed in a cache (a share
of copies above 1 is data that did). {threads} threads, torch {torch}, {date}:

    OMP_WAIT_POLICY=PASSIVE python benchmarks/device_speed.py
"""

PEERS = """
## Peers

Other libraries at these sizes and equal settings, each figure from a process of its own; `times ours` is a library's
time, and then its memory, over this package's. Peak memory is the most that the process held, libraries and data
included. {threads} threads, torch {torch}, {machine}, {date}:

    OMP_WAIT_POLICY=PASSIVE python benchmarks/peers.py --recbole PYTHON

- *LightGCN: epoch* is of 2 layers. PyG's `LightGCN` has no training loop of its own: it gets this package's batches, on
  `edge_index`. Cornac's is written on dgl, whose newest build in the package index is for torch 2.2.
- *LightGCN: evaluation* is Recall@20 and NDCG@20 of all users, with one held-out item each, ranked among all items but
  train items; PyG has none.
- *VBPR: epoch* is with biases and features 4096 wide. Cornac adds the visual bias, a column, to the row of a batch's
  scores, so that its loss is over a [2048, 2048] matrix; this is in its time.
- *VBPR: evaluation* grades like LightGCN's; Cornac ranks one user after another.
- *kNN graph* finds the ten nearest rows to each row by cosine similarity, itself among them. `dense` is the way of
  published code (normalise, multiply all with all, `topk`), scikit-learn's is `NearestNeighbors(metric="cosine")`,
  faiss's `IndexFlatIP`.

Cornac and faiss install beside this package with the extra `benchmark`. RecBole's requirements conflict with
`constraints.txt`, so that it needs an environment of its own, whose Python `--recbole` names:

    python -m venv recbole
    recbole/bin/pip install -c constraints.txt torch
    recbole/bin/pip install "numpy<2" "scipy<1.12" "pandas<2.3" pyyaml tqdm "colorlog==4.7.2" "colorama==0.4.4" \\
        psutil tabulate texttable plotly scikit-learn tensorboard thop
    recbole/bin/pip install --no-deps "recbole==1.2.1"
"""

RETRIEVAL = """
## Recommendations out

Files of recommendations, from the model to the finished file. {threads} threads, torch {torch}, {machine}, {date}:

    OMP_WAIT_POLICY=PASSIVE python benchmarks/retrieval.py
"""

SERVING = """
The HTTP service on loopback, ten items for a random user a request; requests start at fixed times, and a latency counts
from the time at which its request was due. The service and its load share {threads} cores, torch {torch}, {machine},
{date}:

    OMP_WAIT_POLICY=PASSIVE python benchmarks/serving.py
"""


def markdown(rows: list[list[str]], header: list[str]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def with_facts(text: str, table: pd.DataFrame) -> str:
    """The text, with what the first row says of its run."""
    return text.format(**table.iloc[0][["threads", "torch", "machine", "date"]].to_dict())


def accuracy() -> str:
    """One table for each data set."""
    table = pd.read_csv(FOLDER / "results" / "accuracy.csv")
    text = HEAD
    for dataset, part in table.groupby("dataset", sort=False):
        rows = []
        for _, row in part.iterrows():
            cells = [
                f"{row[name]:.4f}" + ("" if pd.isna(row[f"{name}_std"]) else f" ± {row[f'{name}_std']:.4f}")
                for name in METRICS
            ]
            known = not pd.isna(row["published_recall@20"])
            published = f"{row['published_recall@20']:.4f} ({row['published_where']})" if known else ""
            arguments = " ".join(f"`{row[key]}`" for key in ("init_args", "trainer_args") if row[key] != "{}")
            rows.append([row["model"], *cells, f"{row['seeds']:.0f}", arguments, published])
        header = ["model", *METRICS, "seeds", "arguments", "published Recall@20"]
        text += f"\n### {dataset}\n\n{markdown(rows, header)}"
        text += f"\n    python benchmarks/accuracy.py --root DATA --dataset {dataset}\n"
    return text


def shop() -> str:
    """FREEDOM against LightGCN on fresh shops."""
    table = pd.read_csv(FOLDER / "results" / "shop.csv")
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


def speed() -> str:
    """The table of the last run."""
    table = pd.read_csv(FOLDER / "results" / "speed.csv")
    rows = [
        [
            row["what"],
            f"{1000 * row['seconds']:.1f} ms" if row["seconds"] < 0.1 else f"{row['seconds']:.2f} s",
            "" if pd.isna(row["times_faster_than_LGConv"]) else f"{row['times_faster_than_LGConv']:.1f}",
            "" if pd.isna(row["times_raw_CSR"]) else f"{row['times_raw_CSR']:.2f}",
        ]
        for _, row in table.iterrows()
    ]
    header = ["what", "median", "times faster than PyG's LGConv", "time over raw CSR products"]
    return f"{with_facts(SPEED, table)}\n{markdown(rows, header)}"


def devices() -> str:
    """Loops and epochs on each device."""
    text = ""
    for path in sorted((FOLDER / "results").glob("device_*.csv")):
        table = pd.read_csv(path)
        loops = [
            [
                row["what"],
                f"{1000 * row['seconds']:.1f} ms",
                f"{row['bytes_per_second'] / 1e9:.1f} GB/s",
                f"{row['share_of_copies']:.2f}",
                f"{row['operations_per_second'] / 1e9:.1f} GFLOP/s",
                f"{row['share_of_products']:.2f}",
            ]
            for _, row in table[table["share_of_copies"].notna()].iterrows()
        ]
        rates = table[table["seconds"].isna() & table["mode"].isna()]
        copied, multiplied = rates["bytes_per_second"].max() / 1e9, rates["operations_per_second"].max() / 1e9
        loops.insert(0, ["the device", "", f"{copied:.1f} GB/s", "1", f"{multiplied:.1f} GFLOP/s", "1"])
        header = ["loop", "median", "moved", "share of copies", "computed", "share of products"]
        text += f"{with_facts(DEVICE, table)}\n{markdown(loops, header)}\n"
        epochs = [
            [
                row["what"].removeprefix("epoch: "),
                row["mode"],
                *([""] * 3 if pd.isna(row["seconds"]) else [f"{row[name]:.3f} s" for name in SPREAD]),
                "" if pd.isna(row["note"]) else row["note"],
            ]
            for _, row in table[table["mode"].notna()].iterrows()
        ]
        text += markdown(epochs, ["epoch", "mode", "median", "least", "most", ""])
    return text


def models() -> str:
    """Epochs of the baselines on graphs."""
    table = pd.read_csv(FOLDER / "results" / "models_speed.csv")
    rows = [
        [
            row["model"],
            f"{row['epoch_seconds']:.1f} s",
            f"{row['before_seconds']:.2f} s",
            f"{1000 * row['seconds']:.0f} ms",
            f"{1000 * row['cpu_seconds']:.0f} ms",
            f"{row['peak_gib']:.2f} GiB",
        ]
        for _, row in table.iterrows()
    ]
    header = ["model", "epoch", "before the first batch", "step", "CPU", "peak memory"]
    return f"{with_facts(MODELS, table)}\n{markdown(rows, header)}"


def sea() -> str:
    """SEA's step, its gain on the shops and what its parts hold."""
    step = pd.read_csv(FOLDER / "results" / "sea_speed.csv")
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
    table = pd.read_csv(FOLDER / "results" / "sea_shop.csv")
    columns = [name for name in table.columns if name != "shop"]
    gains = markdown(
        [[str(row["shop"]), *(f"{row[name]:.4f}" for name in columns)] for _, row in table.iterrows()],
        ["shop", *columns],
    )
    probes = pd.read_csv(FOLDER / "results" / "sea_probes.csv")
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


def drepmrec() -> str:
    """DRepMRec's step by how its targets are found."""
    table = pd.read_csv(FOLDER / "results" / "drepmrec_speed.csv")
    rows = [
        [
            row["variant"],
            f"{row['seconds']:.2f} s",
            f"{row['cpu_seconds']:.2f} s",
            f"{row['sum_seconds']:.1f} s",
            f"{row['peak_gib']:.2f} GiB",
            f"{row['error']:.3f}",
        ]
        for _, row in table.iterrows()
    ]
    header = ["targets", "wall", "CPU", "epoch", "peak memory", "error"]
    return f"{with_facts(DREPMREC, table)}\n{markdown(rows, header)}"


def mmil() -> str:
    """MMIL's step and memory by the number of intents."""
    table = pd.read_csv(FOLDER / "results" / "mmil_speed.csv")
    rows = [
        [
            row["variant"],
            f"{row['seconds']:.2f} s",
            f"{row['cpu_seconds']:.2f} s",
            f"{row['sum_seconds']:.1f} s",
            f"{row['peak_gib']:.2f} GiB",
        ]
        for _, row in table.iterrows()
    ]
    return f"{with_facts(MMIL, table)}\n{markdown(rows, ['', 'wall', 'CPU', 'epoch', 'peak memory'])}"


def peers() -> str:
    """Other libraries beside this package."""
    table = pd.read_csv(FOLDER / "results" / "peers.csv", dtype={"version": str})
    rows = [
        [
            row["what"],
            " ".join(row[["peer", "version"]].dropna()),
            f"{row['seconds']:.2f} s",
            f"{row['times_ours']:.1f}",
            "" if pd.isna(row["peak_gib"]) else f"{row['peak_gib']:.2f} GiB",
            "" if pd.isna(row["memory_times_ours"]) else f"{row['memory_times_ours']:.1f}",
        ]
        for _, row in table.iterrows()
    ]
    header = ["what", "library", "median", "times ours", "peak memory", "times ours"]
    return f"{with_facts(PEERS, table)}\n{markdown(rows, header)}"


def retrieval() -> str:
    """Files of recommendations, and the service."""
    files = pd.read_csv(FOLDER / "results" / "retrieval.csv")
    rows = [
        [
            f"{row['users']:,}",
            f"{row['items']:,}",
            f"{row['k']}",
            row["format"],
            f"{row['seconds']:.0f} s",
            f"{row['users_per_second']:,.0f}",
            f"{row['file_gib']:.2f} GiB",
            f"{row['peak_gib']:.1f} GiB",
        ]
        for _, row in files.iterrows()
    ]
    header = ["users", "items", "items each", "format", "wall", "users a second", "file", "peak memory"]
    text = with_facts(RETRIEVAL, files)
    text += f"\n{markdown(rows, header)}"
    table = pd.read_csv(FOLDER / "results" / "serving.csv")
    text += with_facts(SERVING, table)
    rows = [
        [
            f"{row['items']:,}",
            f"{row['rate']:.0f}",
            f"{row['answered_per_second']:.1f}",
            f"{row['failed']}",
            *(f"{row[f'{name}_ms']:.1f} ms" for name in ("p50", "p90", "p99", "max")),
        ]
        for _, row in table.iterrows()
    ]
    header = ["items", "requests a second", "answered a second", "failed", "p50", "p90", "p99", "longest"]
    return f"{text}\n{markdown(rows, header)}"


def page() -> str:
    """docs/benchmarks.md."""
    return accuracy() + shop() + speed() + devices() + models() + peers() + sea() + drepmrec() + mmil() + retrieval()


def main() -> None:
    """Writes the pages."""
    (FOLDER.parent / "docs" / "benchmarks.md").write_text(page(), encoding="utf-8")
    papers.PAGE.write_text(papers.page(), encoding="utf-8")


if __name__ == "__main__":
    main()

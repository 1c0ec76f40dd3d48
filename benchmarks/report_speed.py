"""The sections of docs/benchmarks.md on speed and memory."""

from __future__ import annotations

import pandas as pd
from report_tables import RESULTS, markdown, with_facts

SPREAD = ["seconds", "least", "most"]
SCALED = {"epoch_seconds": ".1f", "peak_gib": ".2f"}
WAYS = {"growing": "batches that grow", "sampled": "sampled subgraphs"}

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

MODELS = """
An epoch of the baselines on graphs at these sizes: what comes before the first batch (a graph that is pruned or
searched anew) and 58 steps, with frozen features and default arguments. {threads} threads, torch {torch}, {machine},
{date}:

    OMP_WAIT_POLICY=PASSIVE python benchmarks/models_speed.py
"""

SCALING = """
## Scaling

An epoch of LightGCN on random graphs of ten interactions a user and fifty an item, or with one size changed at
1,000,000 interactions: on the whole graph in batches that grow with it (`batch_size="auto"`), and on subgraphs of ten
sampled neighbours in batches of 2048. An epoch is its number of batches times the median of ten steps; the fits are
linear in the interactions. Subgraphs cost more the fewer of their nodes coincide, until a graph is so large that nearly
none do. {threads} threads, torch {torch}, {date}:

    OMP_WAIT_POLICY=PASSIVE python benchmarks/scaling.py --threads 2
    OMP_WAIT_POLICY=PASSIVE python benchmarks/scaling.py --threads 2 --ways sampled --curves interactions --neighbors 5
"""

MEMORY = """
### Memory that is kept

An epoch of LightGCN where glibc keeps freed memory for the next step (`keep_freed_memory`, which the trainer calls),
and where glibc does as it does by default. {threads} threads, torch {torch}, {machine}, {date}:

    OMP_WAIT_POLICY=PASSIVE python benchmarks/memory.py
"""

NEIGHBORS = """
## Graphs of users

The ten nearest of 39,387 users by the mean features, 4096 wide, of seven items each (Amazon Clothing's sizes, random
features around 500 centres), exactly or among candidates from rounded or projected features, and of a million users by
64 features, exactly; `recall` is the share of the exact neighbours that is found. {threads} threads, torch {torch},
{machine}, {date}:

    OMP_WAIT_POLICY=PASSIVE python benchmarks/knn.py --large
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

PEERS = """
## Peers

Other libraries at these sizes and equal settings, each figure from a process of its own; `times ours` is a library's
time, and then its memory, over this package's. Peak memory is the most that the process held, libraries and data
included. {threads} threads, torch {torch}, {machine}, {date}:

    OMP_WAIT_POLICY=PASSIVE python benchmarks/peers.py --recbole PYTHON

- *LightGCN: epoch* is of 2 layers. PyG's `LightGCN` has no training loop of its own: it gets this package's batches, on
  `edge_index`. Cornac's is written on dgl, whose newest build in the package index is for torch 2.2.
- *memory kept by all* is the same with glibc told, by variables of the environment, to keep freed memory in every
  process; this package's trainer tells it so by itself (`keep_freed_memory`), the others hand it back after each step.
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


def speed() -> str:
    """The table of the last run."""
    table = pd.read_csv(RESULTS / "speed.csv")
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
    for path in sorted(RESULTS.glob("device_*.csv")):
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
    table = pd.read_csv(RESULTS / "models_speed.csv")
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


def scaling() -> str:
    """Epochs as the graph grows."""
    path = RESULTS / "scaling.csv"
    if not path.is_file():
        return ""
    table = pd.read_csv(path, dtype={"neighbors": str})
    sizes = ["interactions", "users", "items", "channels", "layers"]
    shown = table[table["neighbors"].isin(["all", "10"])]
    wide = shown.pivot(index=["curve", *sizes], columns="way", values=["epoch_seconds", "peak_gib"]).reset_index()
    rows = [
        [
            str(row["curve", ""]),
            *(f"{row[name, '']:,}" for name in sizes),
            *(f"{row[what, way]:{form}}" for way in ("growing", "sampled") for what, form in SCALED.items()),
        ]
        for _, row in wide.sort_values(["curve", *sizes]).iterrows()
    ]
    header = ["curve", *sizes, "growing batches", "peak GiB", "sampled subgraphs", "peak GiB"]
    fits = [
        [
            WAYS[row["way"]],
            row["neighbors"],
            f"{row['r2']:.4f}",
            f"{row['seconds_per_million']:.0f} s",
            f"{row['last_exponent']:.2f}",
        ]
        for _, row in pd.read_csv(RESULTS / "scaling_fit.csv", dtype={"neighbors": str}).iterrows()
    ]
    header_of_fits = ["way", "neighbours", "R² of the fit", "a million interactions", "exponent between the last two"]
    fit = markdown(fits, header_of_fits)
    return f"{with_facts(SCALING, table)}\n{fit}\n{markdown(rows, header)}"


def memory() -> str:
    """Epochs with freed memory kept and handed back."""
    path = RESULTS / "memory.csv"
    if not path.is_file():
        return ""
    table = pd.read_csv(path)
    rows = [
        [
            *(f"{row[name]:,}" for name in ("interactions", "users", "items")),
            "kept" if row["kept"] else "handed back",
            f"{row['epoch_seconds']:.2f} s",
            f"{row['times_kept']:.2f}",
            f"{row['peak_gib']:.2f} GiB",
        ]
        for _, row in table.iterrows()
    ]
    header = ["interactions", "users", "items", "freed memory", "epoch", "times kept", "peak memory"]
    return f"{with_facts(MEMORY, table)}\n{markdown(rows, header)}"


def neighbors() -> str:
    """Graphs of many users."""
    path = RESULTS / "knn.csv"
    if not path.is_file():
        return ""
    table = pd.read_csv(path)
    rows = [
        [row["case"], f"{row['seconds']:.0f} s", f"{row['peak_gib']:.1f} GiB", f"{row['recall']:.3f}"]
        for _, row in table.iterrows()
    ]
    return f"{with_facts(NEIGHBORS, table)}\n{markdown(rows, ['search', 'wall', 'peak memory', 'recall'])}"


def drepmrec() -> str:
    """DRepMRec's step by how its targets are found."""
    table = pd.read_csv(RESULTS / "drepmrec_speed.csv")
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
    table = pd.read_csv(RESULTS / "mmil_speed.csv")
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
    table = pd.read_csv(RESULTS / "peers.csv", dtype={"version": str})
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
    files = pd.read_csv(RESULTS / "retrieval.csv")
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
    table = pd.read_csv(RESULTS / "serving.csv")
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

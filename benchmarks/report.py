"""Writes docs/benchmarks.md from the files in results/.

python benchmarks/report.py
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parent
METRICS = ["recall@10", "recall@20", "ndcg@10", "ndcg@20"]

HEAD = """# Benchmarks

All figures come from the files in `benchmarks/results`; `python benchmarks/report.py` writes this page from them.

## Accuracy

Full ranking over all items, train interactions masked (protocol `mmrec`), mean ± sample standard deviation over seeds
on the test part. Each model's grid (`benchmarks/accuracy.yaml`) is searched with one seed on validation Recall@20; the
test part is read only for the chosen point. Published figures are other authors' and were selected in their own way.
`FREEDOM-graph` is FREEDOM without modal losses: it reads the item graphs alone. On `baby` the item graphs are those of
the published features; the features themselves are spectral stand-ins for them, so models that read features
(VBPR, FREEDOM with modal losses) are not comparable with published figures there.
"""

SPEED = """
## Speed

Amazon Baby's sizes (19,445 users, 7,050 items, 118,551 train interactions), width 64, batches of 2048, random data;
medians on {threads} threads, torch {torch}, {machine}, {date}:

    OMP_WAIT_POLICY=PASSIVE python benchmarks/speed.py

Propagation is one layer over the bipartite graph, forward and backward.
"""


def markdown(rows: list[list[str]], header: list[str]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


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
            rows.append([row["model"], *cells, f"{row['seeds']:.0f}", f"`{row['init_args']}`", published])
        header = ["model", *METRICS, "seeds", "arguments", "published Recall@20"]
        text += f"\n### {dataset}\n\n{markdown(rows, header)}"
        text += f"\n    python benchmarks/accuracy.py --root DATA --dataset {dataset}\n"
    return text


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
    facts = table.iloc[0][["threads", "torch", "machine", "date"]].to_dict()
    header = ["what", "median", "times faster than PyG's LGConv", "time over raw CSR products"]
    return f"{SPEED.format(**facts)}\n{markdown(rows, header)}"


def main() -> None:
    """Writes the page."""
    (FOLDER.parent / "docs" / "benchmarks.md").write_text(accuracy() + speed(), encoding="utf-8")


if __name__ == "__main__":
    main()

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pyg_mmrec.benchmark import paired_tests, write_report
from pyg_mmrec.benchmark._charts import Series, line_chart, nice_ticks, share_chart
from pyg_mmrec.benchmark._report_data import read_comparison
from pyg_mmrec.cli import main
from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.models import Recommender
from tests.benchmark.conftest import MARKUP, SHOP, shop_views

VOID = {"meta", "link", "br", "img", "input", "hr"}
FLAGS = [str(token) for name, value in SHOP.items() for token in (f"--dataset.{name}", value)]


class Page(HTMLParser):
    """Checks that tags nest, and keeps what a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.events: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]
        self.events += [name for name, _ in attrs if name.startswith("on")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture
def bench(comparison_root: Path, tmp_path: Path) -> Path:
    """A copy of the comparison's folder that a test may change."""
    return Path(shutil.copytree(comparison_root / "bench", tmp_path / "bench"))


@pytest.fixture(scope="module")
def text(comparison_root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page with all sections."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    views = shop_views(comparison_root / "shop")
    write_report(comparison_root / "bench", path, title="A <i>title", views=views, num_users=2, k=5, map_items=20)
    return path.read_text(encoding="utf-8")


def written(folder: Path, path: Path, **options: object) -> str:
    write_report(folder, path, **options)  # type: ignore[arg-type]
    return path.read_text(encoding="utf-8")


def test_the_page_needs_nothing_beside_it(text: str) -> None:
    page = Page(text)
    assert all(link.startswith("#") for link in page.links)
    assert not re.search(r"https?:|//[a-z]|@import", re.sub(r"base64,[\w+/=]+", "", text).replace("// Sorts", ""))
    assert set(re.findall(r"url\((.{5})", text)) == {"data:"}
    assert "Content-Security-Policy" in text
    assert len(set(page.ids)) == len(page.ids)
    assert len(text) < 500_000


def test_what_comes_from_files_is_escaped(text: str) -> None:
    page = Page(text)
    assert MARKUP not in text
    assert MARKUP in page.words
    assert "A <i>title" in page.words
    assert "AttributeShop} # a <script>" in page.words
    assert page.tags.count("script") == 1
    assert page.events == []
    assert "i" not in page.tags


def test_means_deviations_and_published_values_are_shown(comparison_root: Path, text: str) -> None:
    runs = pd.read_csv(comparison_root / "bench" / "runs.csv")
    for model, part in runs[runs["purpose"] == "test"].groupby("model"):
        values = part["test_recall@20"]
        assert f"{values.mean():.4f} ± {values.std():.4f}" in text, model
    assert "recall@20, published" in text
    assert "SEA, Table 2" in text


def test_tests_are_those_of_the_users_means(comparison_root: Path, text: str) -> None:
    folder, values = comparison_root / "bench" / "shop", {}
    for model in ("FREEDOM", MARKUP):
        seeds = [pd.read_csv(folder / model / f"seed-{seed}" / "users.csv", index_col="user") for seed in (0, 1)]
        values[model] = (seeds[0]["recall@20"] + seeds[1]["recall@20"]) / 2
    row = paired_tests(pd.DataFrame(values)).iloc[0]
    assert f"{row['difference']:+.4f}" in text
    assert f"{row['low']:+.4f} to {row['high']:+.4f}" in text
    assert f"{row['wilcoxon_holm']:.2g}" in text


def test_users_show_what_models_recommend(comparison_root: Path, text: str) -> None:
    views = shop_views(comparison_root / "shop")
    user = int(re.findall(r"User (\d+)", text)[0])
    model = Recommender.from_pretrained(comparison_root / "bench" / "shop" / "FREEDOM" / "seed-0" / "model")
    (expected,) = Evaluator(["recall@5"]).rank(model, views[2]).item[_row_of(views[2], user)].unsqueeze(0).tolist()
    strip = text[text.index(f"User {user}") :]
    strip = strip[strip.index("<h5>FREEDOM") :]
    found = [int(item) for item in re.findall(r'aria-label="item (\d+)"', strip[: strip.index("</ol>")])]
    assert found == expected
    assert text.count("data:image/png;base64,") == len(set(re.findall(r'class="picture picture-(\d+)"', text)))


def _row_of(view: object, user: int) -> int:
    users = view["user", "interacts", "item"].edge_label_index[0].unique()  # type: ignore[index]
    return int((users == user).nonzero())


def test_sections_of_missing_parts_are_left_out(bench: Path, tmp_path: Path) -> None:
    for path in bench.glob("shop/*/*/users.csv"):
        path.unlink()
    (bench / "shop" / "FREEDOM" / "seed-1" / "history.csv").unlink()
    (bench / "suite.yaml").unlink()
    page = Page(written(bench, tmp_path / "report.html"))
    assert "Left out: tests need the values of single users (users.csv) of two models." in page.words
    assert "Left out: no test run has a users.csv." in page.words
    assert "Not in this section: 1 test run without history.csv: shop/FREEDOM/seed-1." in page.words
    assert "no suite.yaml" in page.words
    assert "t-SNE" not in page.words
    shutil.rmtree(bench / "shop")
    assert "Left out: no test run has a history.csv" in Page(written(bench, tmp_path / "report.html")).words


def test_the_baseline_and_the_metrics_are_chosen(bench: Path, tmp_path: Path) -> None:
    text = written(bench, tmp_path / "report.html", baseline="FREEDOM", metrics=["ndcg@20"])
    assert "all against FREEDOM" in text
    assert "test recall@10" not in text
    assert "test ndcg@20" in text


def test_many_models_are_tested_against_the_best_on_validation(bench: Path, tmp_path: Path) -> None:
    table = pd.read_csv(bench / "runs.csv")
    parts = [table]
    for i in range(5):
        copy = table[table["model"] == "FREEDOM"].assign(model=f"copy {i}")
        copy["val_recall@20"] += 0.1 * (i == 3)
        parts.append(copy)
        shutil.copytree(bench / "shop" / "FREEDOM", bench / "shop" / f"copy {i}")
    pd.concat(parts).to_csv(bench / "runs.csv", index=False)
    assert "all against copy 3" in written(bench, tmp_path / "report.html")


BROKEN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no runs": ("runs.csv", lambda path: path.unlink(), "no runs.csv"),
    "runs of another kind": ("runs.csv", lambda path: path.write_text("a,b\n1,2\n"), "runs.csv lacks the columns"),
    "no test run": ("runs.csv", lambda path: _edit(path, purpose="search"), "no finished test run"),
    "words for numbers": ("runs.csv", lambda path: _edit(path, **{"test_recall@20": "high"}), "'test_recall@20'"),
    "arguments": ("runs.csv", lambda path: _edit(path, init_args="x"), "dictionary as JSON"),
    "outside": ("runs.csv", lambda path: _edit(path, model="../other"), "name no folder"),
    "splits": ("runs.csv", lambda path: _edit(path, split_hash=list("abcabc")), "different splits of 'shop'"),
    "points": ("runs.csv", lambda path: _edit(path, trainer_args=[f'{{"a": {i}}}' for i in range(6)]), "give labels"),
    "twice": ("runs.csv", lambda path: _edit(path, seed=0), "two test runs of 'FREEDOM'"),
    "users": ("shop/FREEDOM/seed-0/users.csv", lambda path: path.write_text("user\n1\n"), "users.csv must have"),
    "a value": ("shop/FREEDOM/seed-0/users.csv", lambda path: _edit(path, **{"recall@20": 2.0}), "not in [0, 1]"),
    "a user less": ("shop/FREEDOM/seed-0/users.csv", lambda path: _drop_user(path), "differ in their users"),
    "history": ("shop/FREEDOM/seed-1/history.csv", lambda path: path.write_text("\0"), "history.csv"),
    "epochs": ("shop/FREEDOM/seed-1/history.csv", lambda path: path.write_text("loss\n1\n"), "a column 'epoch'"),
    "settings": ("shop/FREEDOM/seed-1/settings.json", lambda path: path.write_text("[1]"), "settings.json must hold"),
    "suite": ("suite.yaml", lambda path: path.write_bytes(b"\xff\xfe\xff"), "suite.yaml is no text"),
}


def _edit(path: Path, **columns: object) -> None:
    pd.read_csv(path).assign(**columns).to_csv(path, index=False)  # type: ignore[arg-type]


def _drop_user(path: Path) -> None:
    for one in (path, path.parents[1] / "seed-1" / "users.csv"):
        pd.read_csv(one).iloc[1:].to_csv(one, index=False)


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named_in_one_line(case: str, bench: Path, tmp_path: Path) -> None:
    name, spoil, message = BROKEN[case]
    spoil(bench / name)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        write_report(bench, tmp_path / "report.html")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["recall@7"]}, "'metrics' must be among recall@10, recall@20, ndcg@20 (got 'recall@7')"),
        ({"metrics": "recall@20"}, "'metrics' must be a list"),
        ({"metrics": []}, "at least one"),
        ({"baseline": "SEA"}, "'baseline' must be one of FREEDOM"),
        ({"k": 0}, "'k' must be positive"),
        ({"map_items": -1}, "'map_items' must not be negative"),
    ],
)
def test_arguments_are_checked(comparison_root: Path, tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        write_report(comparison_root / "bench", tmp_path / "report.html", **options)  # type: ignore[arg-type]


def test_views_users_and_texts_are_checked(comparison_root: Path, tmp_path: Path) -> None:
    views, bench = shop_views(comparison_root / "shop"), comparison_root / "bench"
    with pytest.raises(ValueError, match=r"'users' must lie in 0\.\.59 \(got 60\)"):
        write_report(bench, tmp_path / "report.html", views=views, users=[60])
    with pytest.raises(ValueError, match="one for each of the 40 items"):
        write_report(bench, tmp_path / "report.html", views=views, texts=["one"])
    with pytest.raises(ValueError, match="not a split that the runs"):
        write_report(bench, tmp_path / "report.html", views=(views[0], views[2], views[1]))


def test_the_command_writes_a_page(comparison_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "folder" / "page.html"
    shop = ["--dataset", "AttributeShop", "--dataset.root", str(comparison_root / "shop"), *FLAGS, "--graph.k", "3"]
    shown = ["--users", "3", "--k", "2", "--map_items", "0"]
    main(["report", str(comparison_root / "bench"), "--output", str(path), *shop, *shown])
    assert capsys.readouterr().out.startswith(f"report: {path} (")
    page = Page(path.read_text(encoding="utf-8"))
    assert "User 3" in page.words
    assert "Items t-SNE" not in page.words


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--users", "3"], "name the data with --dataset"),
        (["--output", "."], "is a folder: name a file"),
        (["--metrics", "recall@7"], "'metrics' must be among"),
        (["--dataset", "AttributeShop", "--dataset.root", "{tmp}", *FLAGS, "--dataset.seed", "5"], "not a split that"),
    ],
)
def test_the_command_refuses(
    comparison_root: Path, tmp_path: Path, failure: Callable[..., str], flags: list[str], message: str
) -> None:
    flags = [flag.format(tmp=tmp_path / "shop") for flag in flags]
    output = [] if "--output" in flags else ["--output", tmp_path / "report.html"]
    assert message in failure("report", comparison_root / "bench", *output, *flags)


def test_a_folder_without_a_comparison_is_refused(tmp_path: Path, failure: Callable[..., str]) -> None:
    assert (
        failure("report", tmp_path) == f"'{tmp_path}' has no runs.csv: name a folder that 'pyg-mmrec benchmark' wrote"
    )


def test_a_comparison_is_read(comparison_root: Path) -> None:
    comparison = read_comparison(comparison_root / "bench")
    assert len(comparison.runs) == 6
    assert len(comparison.tested) == 4
    assert comparison.metrics == ["recall@10", "recall@20", "ndcg@20"]


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0213, 0.0987), (3.0, 1999.0), (0.5, 0.5), (-2.0, -1.0)])
def test_ticks_are_round_and_hold_the_values(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low <= high <= ticks[-1]
    assert 3 <= len(ticks) <= 8
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])


def test_lines_lie_inside_and_keep_their_best_point() -> None:
    y = torch.linspace(0, 1, 1000).sin().numpy().astype(float)
    chart = line_chart(
        "a", [Series("seed 0", list(range(1000)), y, best=777), Series("x", [0], [float("nan")])], "epoch"
    )
    places = np.array([point.split(",") for point in chart.marks[0].points.split()], dtype=float)
    assert len(places) in (200, 201)
    assert (places >= 0).all()
    assert (places[:, 0] <= chart.width).all()
    assert (np.diff(places[:, 0]) >= 0).all()
    assert [mark.kind for mark in chart.marks] == ["line", "dot"]
    assert "777" in chart.marks[1].title


def test_far_values_get_a_logarithmic_scale() -> None:
    chart = line_chart("a", [Series("s", [0, 1], [0.001, 1.0])], "epoch")
    assert [name for _, name in chart.y_ticks] == ["0.001", "0.01", "0.1", "1"]
    assert "ogarithmic" in chart.description


def test_shares_fill_the_bar() -> None:
    chart = share_chart("a", [("m", [0.25, 0.0, 0.75])], ["x", "y", "z"])
    bars = [mark for mark in chart.marks if mark.kind == "bar"]
    assert bars[-1].x + bars[-1].width == pytest.approx(chart.width - 8)


# In a browser

PROBE = """
<script>
const found = {}, table = document.querySelector("table"), head = (i) => table.tHead.rows[0].cells[i];
const column = (i) => [...table.tBodies[0].rows].map((row) => row.cells[i].dataset.key);
head(2).querySelector("button").click(); found.down = column(2); found.state = head(2).getAttribute("aria-sort");
head(2).querySelector("button").click(); found.up = column(2);
head(0).querySelector("button").click(); found.names = column(0); found.reset = head(2).getAttribute("aria-sort");
document.querySelectorAll("details").forEach((one) => { one.open = true; });
document.body.style.width = "390px";
found.wide = [...document.querySelectorAll("h1, h2, h3, p, figure, .scroll, .strip, pre, dl")].filter(
  (one) => one.getBoundingClientRect().right > 391).length;
found.small = [...document.querySelectorAll("thead button")].filter((one) => one.offsetHeight < 40).length;
found.pictures = document.querySelectorAll(".picture").length;
document.title = JSON.stringify(found);
</script>
"""


def test_tables_sort_in_a_browser(text: str, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium on the path")
    page = tmp_path / "page.html"
    page.write_text(text.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={tmp_path}/b"]
    done = subprocess.run(
        [browser, *flags, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None
    found = json.loads(title[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert found["down"] == sorted(found["down"], key=float, reverse=True)
    assert found["up"] == found["down"][::-1]
    assert found["names"] == sorted(found["names"])
    assert (found["state"], found["reset"]) == ("descending", "none")
    assert (found["wide"], found["small"]) == (0, 0)
    assert found["pictures"] > 10

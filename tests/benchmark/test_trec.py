from __future__ import annotations

from pathlib import Path

import ir_measures
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.benchmark import write_qrels, write_run
from pyg_mmrec.evaluation import Evaluator, RankedLists
from pyg_mmrec.models import BPRMF, Popularity, Recommender
from pyg_mmrec.typing import INTERACTS


@pytest.mark.parametrize("model_class", [BPRMF, Popularity])  # the second has many equal scores
def test_another_tool_finds_the_same_values(
    tiny_split: tuple[HeteroData, ...], tmp_path: Path, model_class: type[Recommender]
) -> None:
    test = tiny_split[2]
    torch.manual_seed(0)
    model, evaluator = model_class.from_data(tiny_split[0]), Evaluator(["recall@5", "ndcg@5", "precision@5", "mrr@5"])
    write_run(tmp_path / "new" / "run.txt", evaluator.rank(model, test), "ours")
    write_qrels(tmp_path / "qrels.txt", test)
    names = {"recall@5": "R@5", "ndcg@5": "nDCG@5", "precision@5": "P@5", "mrr@5": "RR@5"}
    measures = [ir_measures.parse_measure(name) for name in names.values()]
    run = list(ir_measures.read_trec_run(str(tmp_path / "new" / "run.txt")))
    qrels = list(ir_measures.read_trec_qrels(str(tmp_path / "qrels.txt")))
    found = ir_measures.calc_aggregate(measures, qrels, run)
    own, by_user = evaluator(model, test), evaluator.by_user(model, test)
    for name, measure in zip(names, measures, strict=True):
        assert own[name] == pytest.approx(found[measure], abs=1e-9)
        assert own[name] == pytest.approx(by_user[name].mean(), abs=1e-12)
    for value in ir_measures.iter_calc(measures, qrels, run):
        name = list(names)[measures.index(value.measure)]
        assert by_user[name][int(value.query_id)] == pytest.approx(value.value, abs=1e-9)


@pytest.mark.slow  # it compiles its metrics
@pytest.mark.parametrize("model_class", [BPRMF, Popularity])
def test_ranx_finds_the_same_values(
    tiny_split: tuple[HeteroData, ...], tmp_path: Path, model_class: type[Recommender]
) -> None:
    ranx = pytest.importorskip("ranx")  # of Python 3.11 and later
    test, names = tiny_split[2], ["recall@5", "ndcg@5", "precision@5", "mrr@5"]
    torch.manual_seed(0)
    model, evaluator = model_class.from_data(tiny_split[0]), Evaluator(names)
    write_run(tmp_path / "run.txt", evaluator.rank(model, test), "ours")
    write_qrels(tmp_path / "qrels.txt", test)
    qrels = ranx.Qrels.from_file(str(tmp_path / "qrels.txt"), kind="trec")
    run = ranx.Run.from_file(str(tmp_path / "run.txt"), kind="trec")
    own = evaluator(model, test)
    for name, value in ranx.evaluate(qrels, run, names).items():
        assert own[name] == pytest.approx(float(value), abs=1e-9)


def test_places_that_stay_empty_are_left_out(tmp_path: Path) -> None:
    lists = RankedLists(torch.tensor([3, 7]), torch.tensor([[5, 2], [4, -1]]), torch.zeros(2, 2))
    write_run(tmp_path / "run.txt", lists, "a")
    assert (tmp_path / "run.txt").read_text() == "3 Q0 5 1 2 a\n3 Q0 2 2 1 a\n7 Q0 4 1 2 a\n"


def test_repeated_interactions_are_one_judgement(tmp_path: Path) -> None:
    data = HeteroData()
    data[INTERACTS].edge_label_index = torch.tensor([[1, 0, 1], [2, 4, 2]])
    write_qrels(tmp_path / "qrels.txt", data)
    assert (tmp_path / "qrels.txt").read_text() == "0 0 4 1\n1 0 2 1\n"


@pytest.mark.parametrize("name", ["", "two words"])
def test_bad_name(tmp_path: Path, name: str) -> None:
    lists = RankedLists(torch.tensor([0]), torch.tensor([[0]]), torch.zeros(1, 1))
    with pytest.raises(ValueError, match=rf"^'name' must be a word without spaces \(got '{name}'\)$"):
        write_run(tmp_path / "run.txt", lists, name)
    assert not (tmp_path / "run.txt").exists()

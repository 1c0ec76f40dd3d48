from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import BPRMF, MDR, MMIL, LightGCN, WideDeep
from pyg_mmrec.retrieval import Retriever, export_faiss, export_onnx, export_torch
from pyg_mmrec.utils import Ids

WIDE = {"mlp_channels": 8, "num_layers": 2}


def test_faiss_finds_what_recommend_gives(tiny_data: HeteroData, tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss")
    model = LightGCN.from_data(tiny_data)
    ids = Ids([f"u{n}" for n in range(40)], list(range(100, 130)))
    path = export_faiss(Retriever(model, tiny_data, ids), tmp_path / "new" / "folder")
    users = np.load(path.with_name("users.npy"))
    scores, items = faiss.read_index(str(path)).search(users, 10)
    expected = model.recommend(tiny_data, torch.arange(40), 10, exclude_seen=False)
    assert np.allclose(scores, expected[0], atol=1e-5)
    assert items.tolist() == expected[1].tolist()
    assert Ids.load(path.parent) == ids


def test_faiss_is_for_inner_products(tiny_data: HeteroData, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    with pytest.raises(ValueError, match="WideDeep cannot be exported to faiss, because its scores are no inner prod"):
        export_faiss(Retriever(WideDeep.from_data(tiny_data, **WIDE), tiny_data), tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("batch", [1, 2, 40])
def test_torch_gives_the_scores(tiny_data: HeteroData, tmp_path: Path, batch: int) -> None:
    model = LightGCN.from_data(tiny_data)
    program = torch.export.load(export_torch(Retriever(model, tiny_data), tmp_path)).module()
    expected = model.recommend(tiny_data, torch.arange(batch), 30, exclude_seen=False)
    scores, items = program(torch.arange(batch)).topk(30)
    assert torch.allclose(scores, expected[0], atol=1e-6)
    assert torch.equal(items, expected[1])


@pytest.mark.parametrize(("cls", "arguments"), [(WideDeep, WIDE), (MMIL, {"head": "mlp"})])
def test_torch_gives_scores_that_are_no_products(
    tiny_data: HeteroData, tmp_path: Path, cls: type, arguments: dict[str, object]
) -> None:
    model = cls.from_data(tiny_data, **arguments)  # type: ignore[attr-defined]
    program = torch.export.load(export_torch(Retriever(model, tiny_data), tmp_path)).module()
    for user in (0, 17):
        expected = model.recommend(tiny_data, torch.tensor([user]), 30, exclude_seen=False)
        scores, items = program(torch.tensor([user])).topk(30)
        assert torch.allclose(scores, expected[0], atol=1e-6)
        assert torch.equal(items, expected[1])


def test_onnx_gives_the_scores(tiny_data: HeteroData, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model = BPRMF.from_data(tiny_data)
    path = export_onnx(Retriever(model, tiny_data), tmp_path)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["scores.onnx"]
    for batch in (1, 40):
        (scores,) = session.run(["scores"], {"user": np.arange(batch)})
        expected = model.recommend(tiny_data, torch.arange(batch), 30, exclude_seen=False)
        found = torch.from_numpy(scores).topk(30)
        assert torch.allclose(found.values, expected[0], atol=1e-6)
        assert torch.equal(found.indices, expected[1])


@pytest.mark.parametrize("export", [export_torch, export_onnx])
def test_scores_that_depend_on_the_history(
    tiny_data: HeteroData,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    export: Callable[[Retriever, Path], Path],
) -> None:
    if export is export_onnx:
        pytest.importorskip("onnxscript")
    with pytest.raises(ValueError, match=r"the scores of MDR cannot be exported to '.*', because what is computed dep"):
        export(Retriever(MDR.from_data(tiny_data), tiny_data), tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize(
    ("export", "package", "extra"),
    [(export_faiss, "faiss", "ann"), (export_onnx, "onnxscript", "onnx"), (export_onnx, "onnx", "onnx")],
)
def test_a_package_that_is_not_there(
    tiny_data: HeteroData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    export: Callable[[Retriever, Path], Path],
    package: str,
    extra: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs \w+; install it with: pip install 'pyg-mmrec\[{extra}\]'"):
        export(Retriever(BPRMF.from_data(tiny_data), tiny_data), tmp_path)


def test_ids_are_json(tiny_data: HeteroData, tmp_path: Path) -> None:
    ids = Ids([f"u{n}" for n in range(40)], list(range(30)))
    export_torch(Retriever(BPRMF.from_data(tiny_data), tiny_data, ids), tmp_path)
    assert json.loads((tmp_path / "ids.json").read_text())["user"][3] == "u3"

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import ClassVar

import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models import BPRMF, VBPR, LightGCN, Recommender, Representations, UserItem
from pyg_mmrec.typing import Triplets


class Pairwise(Recommender):
    """Scores without user vectors."""

    def forward(self, data: HeteroData) -> Representations:
        return Representations(None, torch.ones(self.num_items, 1))

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        return {}


class Later(Pairwise):
    """Always scores the later items higher."""

    def score(
        self, data: HeteroData, representations: Representations, user: Tensor, item: Tensor | None = None
    ) -> Tensor:
        return item.float().expand(user.numel(), -1).clone() if item is not None else torch.empty(0)


def test_base_class_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Recommender(2, 3)  # type: ignore[abstract]


def test_models_have_no_auxiliary_parameters_unless_they_say_so(tiny_data: HeteroData) -> None:
    model = Pairwise(40, 30)
    assert list(model.auxiliary_parameters()) == []
    assert model.auxiliary_loss(tiny_data, Triplets(*torch.zeros(3, 1, dtype=torch.long))) == {}
    assert model.resample(tiny_data, torch.Generator()) is tiny_data


def test_score_without_user_vectors(tiny_data: HeteroData) -> None:
    model = Pairwise(40, 30)
    with pytest.raises(TypeError, match=r"^Pairwise has no user vectors and must define its own 'score'$"):
        model.recommend(tiny_data, torch.tensor([0]))


def test_recommend_uses_the_model_s_own_score(tiny_data: HeteroData) -> None:
    items = Later(40, 30).recommend(tiny_data, torch.tensor([0, 5]), k=3, exclude_seen=False)[1]
    assert items.tolist() == [[29, 28, 27]] * 2


@pytest.mark.parametrize("user", [[0, 40], [-1]])
def test_recommend_for_unknown_users(tiny_data: HeteroData, user: list[int]) -> None:
    with pytest.raises(ValueError, match=rf"^'user' must lie in 0..39 \(got {min(user)}..{max(user)}\)$"):
        Later(40, 30).recommend(tiny_data, torch.tensor(user))


def test_recommend_more_than_there_is(tiny_data: HeteroData) -> None:
    with pytest.raises(ValueError, match=r"^'k' must lie in 1..30, the number of items \(got 31\)$"):
        Later(40, 30).recommend(tiny_data, torch.tensor([0]), k=31)


def test_recommend_for_nobody(tiny_data: HeteroData) -> None:
    scores, items = Later(40, 30).recommend(tiny_data, torch.empty(0, dtype=torch.long), k=4)
    assert scores.shape == items.shape == (0, 4)


def test_recommend_gives_the_mode_back_after_an_error(tiny_data: HeteroData) -> None:
    model = Pairwise(40, 30).train()
    with pytest.raises(TypeError):
        model.recommend(tiny_data, torch.tensor([0]))
    assert model.training


def test_from_data_fills_the_sizes(tiny_data: HeteroData) -> None:
    model = VBPR.from_data(tiny_data, hidden_channels=8, bias=False)
    assert model.config() == {
        "num_users": 40,
        "num_items": 30,
        "in_channels": {"image": 12, "text": 8},
        "hidden_channels": 8,
        "bias": False,
        "l2_weight": 1e-2,
        "modal_l2_weight": 0.0,
        "l2_form": "squared",
    }
    assert VBPR.from_data(tiny_data, in_channels={"text": 8}).in_channels == {"text": 8}


def test_from_data_starts_from_the_data(tiny_data: HeteroData, tmp_path: Path) -> None:
    class Started(BPRMF):
        calls: ClassVar[list[HeteroData]] = []

        def start_from(self, data: HeteroData) -> None:
            self.calls.append(data)

    Started.from_data(tiny_data).save_pretrained(tmp_path)
    Started.from_pretrained(tmp_path)
    assert Started.calls == [tiny_data]


def test_from_data_without_sizes() -> None:
    with pytest.raises(ValueError, match=r"^data\['user'\].num_nodes is not set"):
        LightGCN.from_data(HeteroData())


class ReadsValues(BPRMF):
    """Its constructor cannot run without memory."""

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__(num_users, num_items)
        self.largest = float(self.user_emb.weight.detach().max())


def test_a_constructor_may_read_its_weights(tmp_path: Path) -> None:
    model = ReadsValues(3, 4)
    model.save_pretrained(tmp_path)
    assert torch.equal(ReadsValues.from_pretrained(tmp_path).user_emb.weight, model.user_emb.weight)


def test_from_pretrained_without_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no config.json: is it a folder that 'save_pretrained' wrote\?$"):
        Recommender.from_pretrained(tmp_path)
    BPRMF(2, 3).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no model.safetensors"):
        Recommender.from_pretrained(str(tmp_path))


class Tied(BPRMF):
    """One table under two names."""

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__(num_users, num_items, hidden_channels=2)
        self.output = torch.nn.Linear(2, num_items, bias=False)
        self.output.weight = self.item_emb.weight


def test_tied_weights(tmp_path: Path) -> None:
    model = Tied(3, 4)
    model.save_pretrained(tmp_path)
    loaded = Tied.from_pretrained(tmp_path)
    assert loaded.output.weight is loaded.item_emb.weight
    assert torch.equal(loaded.item_emb.weight, model.item_emb.weight)


@pytest.mark.skipif(os.name != "posix", reason="files have other modes")
def test_saved_files_are_as_readable_as_others(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    BPRMF(2, 3).save_pretrained(tmp_path)
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


def test_two_classes_of_one_name(tmp_path: Path) -> None:
    twins = [type("Twin", (BPRMF,), {"__module__": module}) for module in ("first", "second")]
    twins[0](2, 3).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"holds a Twin, and there are several: .* of one of first.Twin, second.Twin$"):
        Recommender.from_pretrained(tmp_path)
    for twin in twins:
        assert type(twin.from_pretrained(tmp_path)) is twin


def test_from_pretrained_of_another_class(tmp_path: Path) -> None:
    BPRMF(2, 3).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"holds a BPRMF, not a LightGCN: load it with BPRMF.from_pretrained$"):
        LightGCN.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"{}", b"\x80\x04\x95", b"null"], ids=repr)
def test_from_pretrained_of_broken_files(tmp_path: Path, name: str, content: bytes) -> None:
    BPRMF(2, 3).save_pretrained(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"^'.*' does not hold a saved model: ") as error:
        Recommender.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


def test_from_pretrained_of_weights_that_do_not_fit(tmp_path: Path) -> None:
    BPRMF(2, 3).save_pretrained(tmp_path)
    state = {name: torch.zeros(5, 64) for name in ("user_emb.weight", "item_emb.weight")}
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"do not fit its config.json: ") as error:
        Recommender.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


def test_what_save_pretrained_writes(tmp_path: Path) -> None:
    model = BPRMF(2, 3, hidden_channels=4)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert config == {"format": 1, "model": "BPRMF", "init_args": model.config(), "weights_sha256": digest}
    state = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert {name: tensor.shape for name, tensor in state.items()} == {
        "user_emb.weight": (2, 4),
        "item_emb.weight": (3, 4),
    }


def test_representations_are_named() -> None:
    user, item = torch.rand(2, 3), torch.rand(4, 3)
    out = Representations(user, item, behavior=UserItem(user, item))
    assert out.behavior is not None
    assert out.behavior.item is item
    assert out.modal is out.generic is out.unique is out.intent is None

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.benchmark.prepare import Views
from pyg_mmrec.models import DRepMRec
from pyg_mmrec.nn import similarity
from pyg_mmrec.typing import INTERACTS, similar
from tests.models.in_numpy import unit
from tests.models.model_tests import FeatureModelTests, to_double, with_features, with_user_graphs

Array = NDArray[np.float64]
WEIGHTS = {"image": 0.3, "text": 0.7}


@pytest.fixture
def tiny_split(tiny_split: Views) -> Views:
    """With user-user graphs."""
    views = tuple(map(with_user_graphs, tiny_split))
    return views  # type: ignore[return-value]


def dense(edges: Tensor, weight: Tensor | None, num_src: int, num_dst: int) -> Array:
    out = np.zeros((num_dst, num_src))
    for edge, (src, dst) in enumerate(edges.t().tolist()):
        out[dst, src] += 1.0 if weight is None else float(weight[edge])
    return out


def representations_in_numpy(model: Any, data: HeteroData) -> dict[str, tuple[Array, Array]]:
    """Eq. 1 to 7, by dense matrices; users' features are built."""
    state = {name: value.double().numpy() for name, value in model.state_dict().items()}
    user_emb, item_emb = state["user_emb.weight"], state["item_emb.weight"]
    r = dense(data[INTERACTS].edge_index, None, 40, 30).T  # [U, I]
    a = np.block([[np.zeros((40, 40)), r], [r.T, np.zeros((30, 30))]])
    degree = a.sum(1)
    a = a / np.sqrt(np.outer(degree, degree))
    x = [np.concatenate([user_emb, item_emb])]
    for _ in range(2):
        x.append(a @ x[-1])
    mean = np.mean(x, axis=0)
    users, items = np.zeros_like(user_emb), np.zeros_like(item_emb)
    for name, weight in WEIGHTS.items():
        features = data["item"][f"x_{name}"].double().numpy()
        user_features = r @ features / r.sum(1, keepdims=True)
        w, b = state[f"gates.{name}.lin.weight"].T, state[f"gates.{name}.lin.bias"]
        gated_user = 1 / (1 + np.exp(-(user_features @ w + b))) * user_emb
        gated_item = 1 / (1 + np.exp(-(features @ w + b))) * item_emb
        graphs = [data[similar(kind, name)] for kind in ("user", "item")]
        users += weight * dense(graphs[0].edge_index, graphs[0].edge_weight, 40, 40) @ gated_user
        items += weight * dense(graphs[1].edge_index, graphs[1].edge_weight, 30, 30) @ gated_item
    return {"behavior": (mean[:40], mean[40:]), "modal": (users, items)}


def nce_in_numpy(one: Array, other: Array, ids: list[tuple[int, ...]]) -> float:
    """Mean over the rows; rows that share an id are no negatives."""
    one, other, terms = unit(one), unit(other), []
    for b in range(len(one)):
        logits = [
            one[b] @ other[c] / 0.2
            for c in range(len(one))
            if c == b or not any(i == j for i, j in zip(ids[b], ids[c], strict=True))
        ]
        terms.append(np.log(np.exp(logits).sum()) - one[b] @ other[b] / 0.2)
    return float(np.mean(terms))


def losses_in_numpy(model: Any, data: HeteroData, user: list[int], pos: list[int], neg: list[int]) -> dict[str, float]:
    """Eq. 8 to 15."""
    parts = representations_in_numpy(model, data)
    (bu, bi), (mu, mi) = parts["behavior"], parts["modal"]
    gu, gi = bu + mu, bi + mi
    margins = [gu[u] @ gi[i] - gu[u] @ gi[j] for u, i, j in zip(user, pos, neg, strict=True)]
    losses = {"bpr": float(np.mean(np.log1p(np.exp(-np.array(margins)))))}
    pairs = list(zip(user, pos, strict=True))
    losses["intra_behavior"] = 0.1 * nce_in_numpy(bu[user], bi[pos], pairs)
    losses["intra_modal"] = 0.1 * nce_in_numpy(mu[user], mi[pos], pairs)
    users, items = sorted(set(user)), sorted(set(pos))
    losses["inter_user"] = 0.2 * nce_in_numpy(bu[users], mu[users], [(u,) for u in users])
    losses["inter_item"] = 0.2 * nce_in_numpy(bi[items], mi[items], [(i,) for i in items])
    r = dense(data[INTERACTS].edge_index, None, 40, 30).T
    for name, rows, x in (("user", users, mu), ("item", items, mi)):
        target = np.zeros((len(rows), len(rows)))
        for modality, weight in WEIGHTS.items():
            features = data["item"][f"x_{modality}"].double().numpy()
            features = unit((r @ features / r.sum(1, keepdims=True)) if name == "user" else features)[rows]
            target += weight * features @ features.T
        similarity = unit(x[rows]) @ unit(x[rows]).T
        losses[f"sss_{name}"] = 0.3 * float(np.sqrt(((similarity - target) ** 2).mean()))
    layer0 = [model.user_emb.weight[user], model.item_emb.weight[pos], model.item_emb.weight[neg]]
    losses["l2"] = 1e-4 * sum(float(part.detach().double().square().sum()) for part in layer0) / 2 / len(user)
    return losses


class TestDRepMRec(FeatureModelTests[DRepMRec]):
    model_class = DRepMRec

    def double(self, tiny_data: HeteroData, **init_args: Any) -> tuple[Any, HeteroData]:
        data = to_double(tiny_data)
        return self.build(tiny_data, **init_args).to(torch.float64), data

    def test_equals_the_equations(self, tiny_data: HeteroData) -> None:
        model, data = self.double(tiny_data, intra_weight=0.1, inter_weight=0.2, sss_weight=0.3)
        out = model(data)
        expected = representations_in_numpy(model, data)
        for name, pair in expected.items():
            for found, wanted in zip(getattr(out, name), pair, strict=True):
                torch.testing.assert_close(found, torch.from_numpy(wanted))
        torch.testing.assert_close(out.user, out.behavior.user + out.modal.user)
        torch.testing.assert_close(out.item, out.behavior.item + out.modal.item)
        batch = self.batch(data)
        losses = model.loss(data, batch)
        wanted = losses_in_numpy(model, data, *(part.tolist() for part in batch))
        assert losses.keys() == wanted.keys()
        for name, value in wanted.items():
            # the graph's weights are in single precision
            assert losses[name].item() == pytest.approx(value, rel=1e-7), name

    @pytest.mark.parametrize("targets", ["gram", "projected"])
    def test_other_ways_to_the_same_targets(
        self, tiny_data: HeteroData, targets: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(similarity, "GRAM_CHANNELS", 5)
        model, data = self.double(tiny_data)
        other, _ = self.double(tiny_data, targets=targets)  # features are narrower than the projections
        batch = self.batch(data)
        for name, value in model.loss(data, batch).items():
            torch.testing.assert_close(other.loss(data, batch)[name], value)

    def test_ablations(self, tiny_data: HeteroData) -> None:
        every = set(self.losses(self.build(tiny_data), tiny_data))
        for weight, prefix in (("intra_weight", "intra"), ("inter_weight", "inter"), ("sss_weight", "sss")):
            left = set(self.losses(self.build(tiny_data, **{weight: 0.0}), tiny_data))
            assert every - left == {name for name in every if name.startswith(prefix)}

    def test_the_lines_share_the_id_embeddings_or_not(self, tiny_data: HeteroData) -> None:
        for detach in (False, True):
            model = self.build(tiny_data, detach_behavior=detach)
            modal = model(tiny_data).modal
            (modal.user.sum() + modal.item.sum()).backward()
            assert (model.user_emb.weight.grad is None) == detach
            assert model.gates["text"].lin.weight.grad is not None

    def test_users_without_a_modality_have_no_say_in_it(self, tiny_data: HeteroData) -> None:
        """A user's features are the mean of the items that have the modality."""
        tiny_data["item"].mask_image = torch.arange(30) % 2 > 0
        scores = self.all_scores(self.build(tiny_data), tiny_data)
        changed = tiny_data["item"].x_image.clone()
        changed[::2] = 7.0
        item = self.build(tiny_data).eval()(tiny_data).modal.user
        tiny_data["item"].x_image = changed
        assert scores.isfinite().all()
        assert torch.equal(self.build(tiny_data).eval()(tiny_data).modal.user, item)

    @pytest.mark.parametrize("kind", ["user", "item"])
    def test_a_missing_graph(self, tiny_data: HeteroData, kind: str) -> None:
        model = self.build(tiny_data)
        del tiny_data[similar(kind, "text")]
        with pytest.raises(ValueError, match=rf"must have a {kind}-{kind} graph for each .* \(got \['image'\]\)"):
            model(tiny_data)

    def test_default_weights_of_other_modalities(self, tiny_data: HeteroData) -> None:
        data = with_features(tiny_data, {"audio": torch.rand(30, 5), "text": tiny_data["item"].x_text})
        one = self.build(data)
        two = self.build(data, modality_weights={"audio": 0.5, "text": 0.5})
        assert torch.equal(self.all_scores(one, data), self.all_scores(two, data))

    def test_weights_of_other_names(self, tiny_data: HeteroData) -> None:
        with pytest.raises(ValueError, match=r"^'modality_weights' must name the modalities \['image', 'text'\] \(got"):
            self.build(tiny_data, modality_weights={"image": 1.0})

    init_args: ClassVar = {"hidden_channels": 16}

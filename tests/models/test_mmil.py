from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.models import MMIL, Explanation
from pyg_mmrec.nn.loss import intent_contrast
from pyg_mmrec.training import Trainer
from pyg_mmrec.typing import INTERACTS, Histories, similar
from pyg_mmrec.utils import with_operators
from tests.models.in_numpy import adjacency, item_graph, light_gcn, linear, numbers, sigmoid, unit
from tests.models.model_tests import FeatureModelTests, Views


def tables(model: MMIL, data: HeteroData, hidden: set[tuple[int, int]]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Channels of the items and the users' own, from the equations; hidden edges carry nothing."""
    a = adjacency(data[INTERACTS].edge_index)
    for u, i in hidden:
        a[u, i] = 0
    every = numbers(model.item_emb.weight)
    start = np.zeros((len(a), every.shape[1])) if model.user_emb is None else numbers(model.user_emb.weight)
    user, item = light_gcn(a, start, every, model.num_layers)
    out = {"id": unit(item)}
    for name in model.in_channels:
        x = data["item"][f"x_{name}"].numpy().astype(np.float64)
        x = (x - x.mean(0)) / x.std(0)
        smooth = np.linalg.matrix_power(item_graph(data, name), model.num_item_layers)
        out[name] = unit(smooth @ linear(model.encoder[name], x))
    return out, unit(user)


class TestMMIL(FeatureModelTests[MMIL]):
    model_class = MMIL
    init_args = {"hidden_channels": 16, "num_intents": 4, "warmup_epochs": None}  # noqa: RUF012

    def drawn(self, data: HeteroData, **init_args: Any) -> MMIL:
        """A model none of whose parameters is zero, even or one."""
        model = self.build(data, **init_args)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        return model

    def extracted(
        self, model: MMIL, channels: dict[str, np.ndarray], own: np.ndarray, histories: list[list[int]]
    ) -> Any:
        """The extractor, which has a test of its own, on these channels."""
        item = torch.tensor([item for history in histories for item in history], dtype=torch.long)
        ptr = torch.tensor([0, *np.cumsum([len(history) for history in histories]).tolist()])
        as_tensors = {name: torch.from_numpy(x).float() for name, x in channels.items()}
        return model.extractor(as_tensors, torch.from_numpy(own).float(), item, ptr, {})

    def logit(self, model: MMIL, vector: torch.Tensor, item: np.ndarray, bias: float) -> float:
        e = torch.from_numpy(item).float()
        if model.head == "mlp":
            return float(model.predictor(torch.cat([vector, e])).detach()) + bias
        x = (vector if model.residual else 0) + model.predictor(vector)
        return float((model.scale * x @ e).detach()) + bias

    @pytest.mark.parametrize(
        "init_args",
        [
            {},
            {"user_embedding": False},
            {"residual": False},
            {"head": "mlp"},
            {"num_layers": 0, "num_item_layers": 0},
            {"num_layers": 0, "user_embedding": False},
        ],
    )
    def test_scores_equal_their_equations(self, tiny_data: HeteroData, init_args: dict[str, Any]) -> None:
        model = self.drawn(tiny_data, **init_args)
        channels, own = tables(model, tiny_data, set())
        edges = tiny_data[INTERACTS].edge_index.t().tolist()
        out = self.extracted(model, channels, own, [sorted(i for u, i in edges if u == user) for user in range(40)])
        weight = model.item_weight.softmax(0).detach().numpy()
        items = sum(w * x for w, x in zip(weight, channels.values(), strict=True))
        scores = self.all_scores(model, tiny_data)
        for user in (0, 7, 39):
            for item in (0, 13, 29):
                expected = self.logit(model, out.vector[user], items[item], model.item_bias[item].item())
                assert scores[user, item].item() == pytest.approx(expected, rel=1e-4, abs=1e-5)
        torch.testing.assert_close(model(tiny_data).intent, out.assignment)

    @pytest.mark.parametrize("init_args", [{}, {"head": "mlp"}, {"num_negatives": 3}, {"user_embedding": False}])
    def test_losses_equal_their_equations(self, tiny_data: HeteroData, init_args: dict[str, Any]) -> None:
        weights = {"kl_weight": 0.7, "distance_weight": 0.3, "overlap_weight": 0.2, "contrast_weight": 0.5}
        model = self.drawn(tiny_data, **weights, **init_args)
        batch = self.batch(tiny_data)
        negatives = torch.randint(30, (int(batch.hidden.sum()), model.num_negatives))
        batch = batch._replace(neg_item=negatives)
        parts = [slice(int(start), int(stop)) for start, stop in zip(batch.ptr[:-1], batch.ptr[1:], strict=True)]
        hidden = [batch.item[part][batch.hidden[part]].tolist() for part in parts]
        shown = [batch.item[part][~batch.hidden[part]].tolist() for part in parts]
        users = batch.user.tolist()
        channels, own = tables(model, tiny_data, {(u, i) for u, row in zip(users, hidden, strict=True) for i in row})
        out = self.extracted(model, channels, own[users], shown)
        weight = model.item_weight.softmax(0).detach().numpy()
        items = sum(w * x for w, x in zip(weight, channels.values(), strict=True))
        entropy, rows = [], iter(negatives.tolist())
        for row, chosen in enumerate(hidden):
            for item in chosen:
                for j, label in ((item, 1), *((j, 0) for j in next(rows))):
                    p = sigmoid(self.logit(model, out.vector[row], items[j], model.item_bias[j].item()))
                    entropy.append(-math.log(p if label else 1 - p))
        losses = self.losses_of(model, tiny_data, batch)
        assert losses["bce"].item() == pytest.approx(np.mean(entropy), rel=1e-4)
        s, g = out.assignment.detach().numpy(), out.distance.detach().numpy()
        assert losses["kl"].item() == pytest.approx(0.7 * (np.sum(s * np.log(s)) / len(s) + math.log(4)), rel=1e-3)
        assert losses["distance"].item() == pytest.approx(0.3 * np.sum(s * g) / len(s), rel=1e-4)
        intents = unit(model.extractor.intents.weight.detach().numpy())
        overlap = sum((intents[m] @ intents[n]) ** 2 for m in range(4) for n in range(m + 1, 4))
        assert losses["overlap"].item() == pytest.approx(0.2 * overlap, rel=1e-4)
        assert set(losses) == {"bce", "kl", "distance", "overlap", "contrast"}

    @staticmethod
    def losses_of(model: MMIL, data: HeteroData, batch: Histories) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        return model.loss(data, batch)

    def test_what_is_predicted_reaches_no_vector(self, tiny_data: HeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
        """Vectors of users and items are those of a graph from which the hidden edges were taken before."""
        model, batch = self.drawn(tiny_data), self.batch(tiny_data)
        found = []
        original = type(model.extractor).forward
        monkeypatch.setattr(type(model.extractor), "forward", lambda *args: (found.append(args), original(*args))[1])
        model.loss(tiny_data, batch)
        channels, own, item, ptr, _ = found[0][1:]
        row = torch.arange(batch.user.numel()).repeat_interleave(batch.ptr.diff())
        gone = set(zip(batch.user[row[batch.hidden]].tolist(), batch.item[batch.hidden].tolist(), strict=True))
        assert len(gone) == batch.hidden.sum()
        expected, expected_own = tables(model, tiny_data, gone)
        for name, table in channels.items():
            np.testing.assert_allclose(table.detach().numpy(), expected[name], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(own.detach().numpy(), expected_own[batch.user], rtol=1e-3, atol=1e-5)
        assert torch.equal(item, batch.item[~batch.hidden])
        assert ptr[-1] == (~batch.hidden).sum()

    def test_the_contrast_is_between_two_parts_of_histories(
        self, tiny_data: HeteroData, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = self.drawn(tiny_data, contrast_weight=1.0, keep=0.4)
        # One user has a single item.
        batch = Histories(
            torch.tensor([3, 5, 9]),
            torch.tensor([0, 4, 5, 10]),
            torch.tensor([1, 2, 3, 4, 8, 5, 6, 7, 9, 0]),
            torch.tensor([True, False, False, True, False, True, True, False, False, False]),
            torch.zeros(4, 1, dtype=torch.long),
        )
        found, original = [], type(model.extractor).forward

        def forward(*args: Any) -> Any:
            found.append((args, original(*args)))
            return found[-1][1]

        monkeypatch.setattr(type(model.extractor), "forward", forward)
        sizes = []
        for _ in range(200):
            found.clear()
            losses = model.loss(tiny_data, batch)
            _, one, other = found
            for (_, channels, own, item, ptr, _), _ in (one, other):
                assert own.size(0) == 2  # who has one item is left out
                assert ptr.tolist() == [0, ptr[1], item.numel()]
                assert ptr.diff().min() > 0
                assert set(item[: ptr[1]].tolist()) <= {1, 2, 3, 4}
                assert set(item[ptr[1] :].tolist()) <= {5, 6, 7, 9, 0}
                sizes.append(item.numel())
                assert set(channels) == {"id", "image", "text"}
            expected = intent_contrast(one[1].views, other[1].views, model.temperature)
            torch.testing.assert_close(losses["contrast"], expected)
        # The share that is kept, plus an item where it is not among these already.
        assert np.mean(sizes) == pytest.approx(0.4 * 9 + 2 * 0.6, abs=0.3)

    @pytest.mark.parametrize(
        ("init_args", "terms"),
        [
            ({"intent_learning": False}, {"bce"}),
            ({"modal_awareness": False}, {"bce", "kl", "distance", "overlap"}),
            ({"contrast_weight": 0.0}, {"bce", "kl", "distance", "overlap"}),
            ({"intent_learning": False, "modal_awareness": False}, {"bce"}),
        ],
    )
    def test_ablations(self, tiny_data: HeteroData, init_args: dict[str, Any], terms: set[str]) -> None:
        model = self.build(tiny_data, **init_args)
        losses = self.losses(model, tiny_data)
        assert set(losses) == terms
        sum(losses.values()).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
        assert self.all_scores(model, tiny_data).isfinite().all()
        assert (model(tiny_data).intent is None) == ("intent_learning" in init_args)

    def test_users_without_items_have_scores(self, tiny_data: HeteroData) -> None:
        edge_index = tiny_data[INTERACTS].edge_index
        tiny_data[INTERACTS].edge_index = edge_index[:, edge_index[0] != 4]
        scores = self.all_scores(self.build(tiny_data), tiny_data)
        assert scores.isfinite().all()

    def test_blocks_of_users_change_nothing(self, tiny_data: HeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
        for head in ("inner", "mlp"):
            model = self.drawn(tiny_data, head=head)
            whole = self.all_scores(model, tiny_data)
            monkeypatch.setattr("pyg_mmrec.models.mmil.USERS_AT_ONCE", 7)
            monkeypatch.setattr("pyg_mmrec.models.mmil.PAIRED_AT_ONCE", 100)
            torch.testing.assert_close(self.all_scores(model, tiny_data), whole)
            monkeypatch.undo()

    def test_features_are_standardised(self, tiny_data: HeteroData) -> None:
        scores = self.all_scores(self.build(tiny_data), tiny_data)
        tiny_data["item"].x_image = 50 * tiny_data["item"].x_image - 7
        torch.testing.assert_close(self.all_scores(self.build(tiny_data), tiny_data), scores, rtol=1e-4, atol=1e-4)
        tiny_data["item"].x_image[:, 0] = 3.0
        assert self.all_scores(self.build(tiny_data), tiny_data).isfinite().all()
        mask = tiny_data["item"].mask_image = torch.arange(30) % 3 > 0
        model, x = self.build(tiny_data), tiny_data["item"].x_image[mask]
        torch.testing.assert_close(model.standardize["image"].mean, x.mean(0))
        torch.testing.assert_close(model.standardize["image"].deviation[1:], x.std(0, correction=0)[1:])

    def test_a_batch_of_single_items_is_trained_on(self, tiny_data: HeteroData) -> None:
        batch = Histories(
            torch.tensor([3, 5]),
            torch.tensor([0, 1, 2]),
            torch.tensor([1, 2]),
            torch.tensor([False, False]),
            torch.zeros(0, 1, dtype=torch.long),
        )
        losses = self.drawn(tiny_data, contrast_weight=1.0).loss(tiny_data, batch)
        assert losses["bce"].item() == losses["contrast"].item() == 0
        assert all(value.isfinite() for value in losses.values())

    def test_users_without_an_embedding(self, tiny_data: HeteroData) -> None:
        """Nothing is then learned of a single user: equal histories, equal vectors."""
        edges = tiny_data[INTERACTS].edge_index
        twin = edges[1][edges[0] == 3]
        others = edges[:, edges[0] != 4]
        tiny_data[INTERACTS].edge_index = torch.cat([others, torch.stack([torch.full_like(twin, 4), twin])], dim=1)
        vector = self.drawn(tiny_data, user_embedding=False)(tiny_data).user
        torch.testing.assert_close(vector[3], vector[4])
        vector = self.drawn(tiny_data)(tiny_data).user
        assert (vector[3] - vector[4]).abs().max() > 1e-3

    def test_how_embeddings_start(self, tiny_data: HeteroData) -> None:
        bound = (6 / (30 + 256)) ** 0.5
        weight = self.build(tiny_data, hidden_channels=256).item_emb.weight
        assert weight.abs().max().item() == pytest.approx(bound, rel=0.01)
        weight = self.build(tiny_data, hidden_channels=256, embedding_std=0.5).item_emb.weight
        torch.testing.assert_close(weight.norm(dim=1), torch.full((30,), 8.0), rtol=0.2, atol=0)

    def test_explanations(self, tiny_data: HeteroData) -> None:
        model = self.drawn(tiny_data)
        edges = tiny_data[INTERACTS].edge_index
        for user in (0, 17):
            why = model.explain(tiny_data, user)
            assert isinstance(why, Explanation)
            assert sorted(why.item.tolist()) == sorted(edges[1][edges[0] == user].tolist())
            torch.testing.assert_close(why.intent, model(tiny_data).intent[user].detach())
            assert list(why.modality) == ["id", "image", "text"]
            assert sum(why.modality.values()) == pytest.approx(1)
            assert why.carried.shape == (4, why.item.numel())
            assert (why.carried > 0).all()
            # What is missing to one is the user's own part of the ID channel.
            assert (1 - why.modality["id"] - 1e-6 < why.carried.sum(1)).all()
            assert (why.carried.sum(1) < 1).all()

    def test_explanations_of_nobody(self, tiny_data: HeteroData) -> None:
        with pytest.raises(ValueError, match=r"^'user' must lie in 0..39 \(got 40\)$"):
            self.build(tiny_data).explain(tiny_data, 40)
        with pytest.raises(ValueError, match=r"^without 'intent_learning' and 'modal_awareness' no intent is carried"):
            self.build(tiny_data, intent_learning=False).explain(tiny_data, 0)

    def test_intents_are_placed_after_the_warmup(self, tiny_split: Views) -> None:
        model = self.build(tiny_split[0], warmup_epochs=2)
        history = Trainer(max_epochs=4, accelerator="cpu", progress=False).fit(model, *tiny_split).history
        terms = [{name for name in row if name.startswith("loss_")} for row in history]
        assert terms[0] == terms[1] == {"loss_bce"}
        assert terms[2] == terms[3] == {"loss_bce", "loss_kl", "loss_distance", "loss_overlap", "loss_contrast"}

    def test_place_of_the_intents(self, tiny_data: HeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
        """They are placed once, by the samples of all users."""
        model, placed = self.build(tiny_data, warmup_epochs=3), []
        monkeypatch.setattr(model.extractor.intents, "place", lambda z, generator: placed.append(z))
        model.start_epoch(tiny_data, 2, torch.Generator())
        assert not placed
        assert set(self.losses(model, tiny_data)) == {"bce"}
        model.start_epoch(tiny_data, 3, torch.Generator())
        model.start_epoch(tiny_data, 3, torch.Generator())
        assert len(self.losses(model, tiny_data)) == 5
        channels, own = tables(model, tiny_data, set())
        users, items = tiny_data[INTERACTS].edge_index.numpy()
        (sample,) = placed
        np.testing.assert_allclose(
            sample, [own[user] + channels["id"][items[users == user]].mean(0) for user in range(40)], atol=1e-5
        )

    def test_fewer_users_than_intents(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data, num_intents=41, warmup_epochs=0)
        drawn = model.extractor.intents.weight.detach().clone()
        model.start_epoch(tiny_data, 0, torch.Generator().manual_seed(0))
        assert torch.equal(model.extractor.intents.weight, drawn)
        assert "kl" in self.losses(model, tiny_data)

    @pytest.mark.parametrize("warmup_epochs", [None, 1])
    def test_a_training_resumes(
        self, tiny_split: Views, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warmup_epochs: int | None
    ) -> None:
        def fit(folder: str, resume: bool = False) -> dict[str, torch.Tensor]:
            trainer = Trainer(
                max_epochs=3,
                batch_size=16,
                run_dir=tmp_path / folder,
                checkpoint_minutes=1e-9,
                evaluator=Evaluator(["recall@20"]),
                accelerator="cpu",
                progress=False,
            )
            model = self.build(tiny_split[0], warmup_epochs=warmup_epochs)
            trainer.fit(model, *tiny_split, resume=resume)
            return model.state_dict()

        whole, original, calls = fit("whole"), MMIL.loss, []

        def loss(model: MMIL, data: HeteroData, batch: Histories) -> dict[str, torch.Tensor]:
            calls.append(batch)
            if len(calls) == 5:  # in the second epoch
                raise ZeroDivisionError
            return original(model, data, batch)

        monkeypatch.setattr(MMIL, "loss", loss)
        with pytest.raises(ZeroDivisionError):
            fit("stopped")
        for name, value in fit("stopped", resume=True).items():
            assert torch.equal(value, whole[name]), name

    def test_many_intents_and_long_histories(self) -> None:
        """A hundred intents and a history of 10,000 items stay linear in their product."""
        data = HeteroData()
        data["user"].num_nodes, data["item"].num_nodes = 3, 12_000
        item = torch.randperm(12_000)
        data[INTERACTS].edge_index = torch.stack([torch.tensor([0] * 10_000 + [1] * 1000 + [2] * 1000), item])
        data["item"].x_text = torch.randn(12_000, 4)
        model = self.build(data, num_intents=100, num_item_layers=0)
        sum(self.losses(model, with_operators(data)).values()).backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())

    @pytest.mark.parametrize(
        ("init_args", "message"),
        [
            ({"num_intents": 1}, r"^'num_intents' must be at least 2 \(got 1\)$"),
            ({"warmup_epochs": -1}, r"^'warmup_epochs' must not be negative \(got -1\)$"),
            ({"num_heads": 3}, r"^'num_heads' must divide 'hidden_channels' \(got 3 and 16\)$"),
            ({"head": "outer"}, r"^'head' must be 'inner' or 'mlp' \(got 'outer'\)$"),
            ({"kl_of": "all"}, r"^'kl_of' must be 'users' or 'batch' \(got 'all'\)$"),
            ({"overlap_form": "cubed"}, r"^'overlap_form' must be 'squared' or 'printed' \(got 'cubed'\)$"),
            ({"kl_weight": -1.0}, r"^'kl_weight' must not be negative \(got -1.0\)$"),
            ({"keep": 1.0}, r"^'keep' must lie between 0 and 1 \(got 1.0\)$"),
            ({"hidden_share": 0.0}, r"^'hidden_share' must lie between 0 and 1 \(got 0.0\)$"),
            ({"user_embedding": "yes"}, r"^'user_embedding' must be True or False \(got 'yes'\)$"),
            ({"embedding_std": 0.0}, r"^'embedding_std' must be positive \(got 0.0\)$"),
            ({"num_negatives": 0}, r"^'num_negatives' must be positive \(got 0\)$"),
            ({"temperature": 0.0}, r"^'temperature' must be positive \(got 0.0\)$"),
            (
                {"in_channels": {"id": 3}},
                r"^a modality cannot be called 'id', which is the ",
            ),
        ],
    )
    def test_bad_arguments(self, tiny_data: HeteroData, init_args: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            self.build(tiny_data, **init_args)

    def test_data_without_an_item_graph(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data)
        del tiny_data[similar("item", "image")]
        with pytest.raises(
            ValueError, match=r"graph for each modality of its features, .* \(got graphs of \['text'\]\)"
        ):
            model(tiny_data)
        self.losses(self.build(tiny_data, num_item_layers=0), tiny_data)

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import MMGCL
from pyg_mmrec.models.mmgcl import DROPPED
from pyg_mmrec.typing import INTERACTS, Triplets
from pyg_mmrec.utils import interaction_operator
from tests.models.in_numpy import adjacency, light_gcn, projected
from tests.models.model_tests import NAMES, FeatureModelTests


def inputs(data: HeteroData, model: MMGCL) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Users and items of each modality before they are smoothed."""
    users = np.split(model.user_emb.weight.detach().numpy(), len(model.in_channels), axis=1)
    return users, list(projected(data, model).values())


def contrast(anchor: list[np.ndarray], positive: list[np.ndarray], shift: int, temperature: float) -> float:
    """InfoNCE of joined modalities; shift is how far the row is from which a negative takes one modality."""

    def unit(parts: list[np.ndarray]) -> np.ndarray:
        x = np.concatenate(parts)
        return x / np.linalg.norm(x)

    total, num_rows = 0.0, len(anchor[0])
    for b in range(num_rows):
        own = unit([part[b] for part in anchor])
        logits = [own @ unit([part[c] for part in positive]) / temperature for c in range(num_rows)]
        pos = logits[b]
        if len(anchor) > 1:
            for m in range(len(anchor)):
                swapped = [part[(b - shift) % num_rows if n == m else b] for n, part in enumerate(positive)]
                logits.append(own @ unit(swapped) / temperature)
        total += np.log(np.exp(logits).sum()) - pos
    return total / num_rows


class TestMMGCL(FeatureModelTests[MMGCL]):
    model_class = MMGCL

    def changed(self, data: HeteroData) -> HeteroData:
        """Some items lack the first modality."""
        data["item"].mask_audio = torch.arange(30) % 3 > 0
        return data

    @pytest.mark.parametrize("num_layers", [0, 2])
    @pytest.mark.parametrize("data", [1, 2, 3], indirect=True)
    def test_forward_equals_its_equations(self, data: HeteroData, num_layers: int) -> None:
        model, a = self.drawn(data, num_layers=num_layers), adjacency(data[INTERACTS].edge_index)
        parts = [light_gcn(a, *pair, model.num_layers) for pair in zip(*inputs(data, model), strict=True)]
        out = model(data)
        for found, side in zip((out.user, out.item), zip(*parts, strict=True), strict=True):
            np.testing.assert_allclose(found.detach().numpy(), np.concatenate(side, axis=1), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("l2_form", ["squared", "norm"])
    @pytest.mark.parametrize("data", [1, 2, 3], indirect=True)
    def test_loss_equals_its_equation(self, data: HeteroData, l2_form: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every draw of a step is made to be the last modality, the nodes below the share and a shift of three."""
        weights = {"contrast_weight": 0.7, "temperature": 0.5, "l2_weight": 0.3, "l2_form": l2_form}
        model = self.drawn(data, masking=0.41, **weights)
        view = model.resample(data, torch.Generator().manual_seed(0))
        batch, num = self.batch(data), len(model.in_channels)
        monkeypatch.setattr(torch, "randint", lambda *args: torch.tensor(num - 1 if len(args) == 2 else 3))
        monkeypatch.setattr(torch, "rand", lambda n, _, device: (torch.arange(n) / n).unsqueeze(1))
        losses = model.loss(view, batch)
        first, whole = inputs(data, model), interaction_operator(data).t().to_dense().numpy()
        np.testing.assert_allclose(whole, adjacency(data[INTERACTS].edge_index), rtol=1e-6)
        parts = [light_gcn(whole, *pair, model.num_layers) for pair in zip(*first, strict=True)]
        user, item = (np.concatenate(side, axis=1) for side in zip(*parts, strict=True))
        bpr, squares = 0.0, np.zeros(3)
        layer0 = [np.concatenate(side, axis=1) for side in first]
        for u, i, j in zip(*(part.tolist() for part in batch), strict=True):
            bpr += np.log1p(np.exp(user[u] @ item[j] - user[u] @ item[i]))
            squares += [np.square(row).sum() for row in (layer0[0][u], layer0[1][i], layer0[1][j])]
        penalty = squares.sum() / 2 if l2_form == "squared" else np.sqrt(squares).sum()
        dropped = light_gcn(
            view[INTERACTS][DROPPED].t().to_dense().numpy(), first[0][-1], first[1][-1], model.num_layers
        )
        masked = [x * (np.arange(len(x)) / len(x) >= 0.41)[:, None] for x in (first[0][-1], first[1][-1])]
        masked_out, total = light_gcn(whole, *masked, model.num_layers), 0.0
        for side, rows in enumerate((sorted(set(batch.user.tolist())), sorted(set(batch.pos_item.tolist())))):
            assert len(rows) < batch.user.numel()
            kept = [part[side][rows] for part in parts[:-1]]
            total += contrast([*kept, dropped[side][rows]], [*kept, masked_out[side][rows]], 3, 0.5)
        assert set(losses) == {"bpr", "contrast", "l2"}
        assert losses["bpr"].item() == pytest.approx(bpr / batch.user.numel(), rel=1e-4)
        assert losses["contrast"].item() == pytest.approx(0.7 * total, rel=1e-4)
        assert losses["l2"].item() == pytest.approx(0.3 * penalty / batch.user.numel(), rel=1e-4)

    def test_edges_are_dropped_once_an_epoch(self, data: HeteroData) -> None:
        model = self.build(data, edge_dropout=0.3)
        one, two, other = (model.resample(data, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
        graphs = [view[INTERACTS][DROPPED].to_dense() for view in (one, two, other)]
        assert torch.equal(graphs[0], graphs[1])
        assert not torch.equal(graphs[0], graphs[2])
        assert DROPPED not in data[INTERACTS]
        edges = data[INTERACTS].edge_index
        kept = graphs[0].t().nonzero()
        assert kept.size(0) == pytest.approx(0.7 * edges.size(1), abs=20)
        assert set(map(tuple, kept.tolist())) < set(map(tuple, edges.t().tolist()))
        np.testing.assert_allclose(graphs[0].t().numpy(), adjacency(kept.t()), rtol=1e-6)
        assert torch.equal(interaction_operator(one).to_dense(), interaction_operator(data).to_dense())

    def test_dropped_edges_change_the_contrast_alone(self, data: HeteroData) -> None:
        model = self.build(data, edge_dropout=0.5)
        view = model.resample(data, torch.Generator().manual_seed(0))
        losses, changed = self.losses(model, data), self.losses(model, view)
        assert changed.pop("contrast") != losses.pop("contrast")
        assert changed == losses
        assert torch.equal(model(view).user, model(data).user)

    @pytest.mark.parametrize("masking", [0.0, 0.4])
    def test_one_modality_is_disturbed(self, data: HeteroData, masking: float) -> None:
        model = self.build(data, edge_dropout=0.5)
        view = model.resample(data, torch.Generator().manual_seed(0))
        index, sides, seen = (torch.arange(40), torch.arange(30)), model._inputs(data), set()
        whole = tuple(x.view(side.shape) for x, side in zip((model(data).user, model(data).item), sides, strict=True))
        for _ in range(20):
            graph = interaction_operator(data) if masking else view[INTERACTS][DROPPED]
            for rows, before in zip(model._disturbed(sides, whole, graph, index, masking), whole, strict=True):
                changed = (rows - before).abs().amax((0, 2)) > 1e-6
                assert changed.sum() == 1
            seen.add(int(changed.nonzero()))
        assert seen == {0, 1, 2}

    def test_evaluation_disturbs_nothing(self, data: HeteroData) -> None:
        model = self.build(data, masking=0.5).eval()
        view = model.resample(data, torch.Generator().manual_seed(0))
        batch = self.batch(data)
        assert model.loss(view, batch) == model.loss(data, batch) == model.loss(data, batch)

    def test_challenging_negatives_have_one_modality_of_another_row(self, data: HeteroData) -> None:
        model, rows = self.build(data), torch.randn(5, 3, 16)
        for _ in range(10):
            swapped = model._swapped(rows).unflatten(2, (3, 16))
            for b in range(5):
                for m in range(3):
                    equal = [(rows == swapped[b, m, n]).all(-1).nonzero().tolist() for n in range(3)]
                    assert all(equal[n] == [[b, n]] for n in range(3) if n != m)
                    assert equal[m][0][0] != b
                    assert equal[m][0][1] == m

    def test_challenging_negatives_need_others_and_two_modalities(self, data: HeteroData) -> None:
        model = self.build(data)
        assert model._swapped(torch.randn(1, 3, 16)) is None
        assert model._swapped(torch.randn(5, 1, 16)) is None
        assert self.build(data, challenging_negatives=False)._swapped(torch.randn(5, 3, 16)) is None
        alone = Triplets(*(torch.full((5,), number) for number in (3, 7, 9)))
        assert model.loss(data, alone)["contrast"].item() == 0

    def test_challenging_negatives_raise_the_contrast(self, data: HeteroData) -> None:
        model, batch = self.build(data).eval(), self.batch(data)
        plain = copy.copy(model)
        plain.challenging_negatives = False
        assert model.loss(data, batch)["contrast"] > plain.loss(data, batch)["contrast"]

    def test_each_user_and_item_is_contrasted_once(self, data: HeteroData) -> None:
        model, batch = self.build(data).eval(), self.batch(data)
        again = model.loss(data, Triplets(*(part.repeat(2) for part in batch)))["contrast"]
        torch.testing.assert_close(again, model.loss(data, batch)["contrast"])

    def test_items_without_a_modality_send_nothing(self, data: HeteroData) -> None:
        model = self.drawn(data)
        before, losses = model(data), self.losses(model, data)
        data["item"].x_audio[::3] = 7
        assert torch.equal(model(data).item, before.item)
        assert self.losses(model, data) == losses

    def test_modal_items_are_the_projected_features(self, data: HeteroData) -> None:
        model = self.drawn(data)
        assert model.modal_channels == dict.fromkeys(NAMES, 16)
        for x, expected in zip(model.modal_items(data).values(), inputs(data, model)[1], strict=True):
            np.testing.assert_allclose(x.detach().numpy(), expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("name", ["edge_dropout", "masking"])
    @pytest.mark.parametrize("value", [-0.1, 1.0])
    def test_shares_out_of_range(self, data: HeteroData, name: str, value: float) -> None:
        with pytest.raises(ValueError, match=rf"^'{name}' must lie in \[0, 1\) \(got {value}\)$"):
            self.build(data, **{name: value})

    @pytest.mark.parametrize("name", ["contrast_weight", "l2_weight"])
    def test_negative_weights(self, tiny_data: HeteroData, name: str) -> None:
        with pytest.raises(ValueError, match=rf"^'{name}' must not be negative \(got -1.0\)$"):
            self.build(tiny_data, **{name: -1.0})

    def test_flags_are_flags(self, tiny_data: HeteroData) -> None:
        with pytest.raises(ValueError, match=r"^'challenging_negatives' must be True or False \(got 1\)$"):
            self.build(tiny_data, challenging_negatives=1)

    def test_temperature_must_be_positive(self, tiny_data: HeteroData) -> None:
        with pytest.raises(ValueError, match=r"^'temperature' must be positive \(got 0.0\)$"):
            self.build(tiny_data, temperature=0.0)

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models import MDR, ScoreExplanation, content_din
from pyg_mmrec.nn import AspectBranch, AttributeLayout, ImageVAE
from pyg_mmrec.nn.loss import gaussian_kl, leakage_loss, orthogonality_loss, reconstruction_loss
from pyg_mmrec.typing import INTERACTS, Triplets
from tests.models.model_tests import FeatureModelTests, assert_unchanged, snapshot

LAYOUT = AttributeLayout({"block": ["image", "text"], "tone": ["text", "image"], "price": ["text"]}, {"block": 4}, 1)


@pytest.fixture
def raw_data(tiny_data: HeteroData) -> HeteroData:
    """Pictures and words of the blocks; a few labels; an item without a picture and one without words."""
    block = torch.arange(30) % 4
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(60, (30, 1, 8, 8), generator=generator)
    for item in range(30):
        image[item, 0, 2 * block[item] : 2 * block[item] + 2] += 180
    tokens = 1 + torch.randint(3, (30, 6), generator=generator) + 3 * block.unsqueeze(1)
    tokens[:, 4:] = 0
    tokens[7] = 0
    tiny_data["item"].image = image.to(torch.uint8)
    tiny_data["item"].tokens = tokens
    tiny_data["item"].mask_image = torch.arange(30) != 5
    tiny_data["item"].attr_block = torch.where(torch.arange(30) < 10, block, -1)
    return tiny_data


class TestMDR(FeatureModelTests[MDR]):
    model_class = MDR
    init_args = {"kl_weight": 0.1}  # noqa: RUF012

    def test_raw_content_is_read(self, raw_data: HeteroData) -> None:
        model = self.build(raw_data, word_channels=8, layout=LAYOUT)
        assert model.image_shape == [1, 8, 8]
        assert model.num_words == 13
        assert isinstance(model.branch["image"], ImageVAE)
        assert isinstance(model.branch["text"], AspectBranch)
        assert (model.branch["text"].word.abs().sum(1) > 0).tolist() == [False] + [True] * 12
        assert self.all_scores(model, raw_data).isfinite().all()
        losses = self.losses(model, raw_data)
        assert list(losses) == [
            *("bce", "reconstruction", "kl", "aspects", "orthogonality", "labels", "information"),
        ]
        torch.stack(list(losses.values())).sum().backward()
        for name, parameter in model.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name
        features = self.build(raw_data, image_shape=None, num_words=None, layout=LAYOUT)
        assert not any(isinstance(branch, ImageVAE) for branch in features.branch.values())
        twin = MDR(**model.config())
        twin.load_state_dict(model.state_dict())
        assert torch.equal(self.all_scores(twin, raw_data), self.all_scores(model, raw_data))

    def test_blocks_are_recovered_from_pictures_and_words(
        self, tiny_split: tuple[HeteroData, ...], raw_data: HeteroData
    ) -> None:
        views = []
        for view in tiny_split:
            views.append(copy.copy(view))
            for key in ("image", "tokens", "mask_image"):
                views[-1]["item"][key] = raw_data["item"][key]
            del views[-1]["item"].x_image, views[-1]["item"].x_text
        self.init_args = {**self.init_args, "word_channels": 8}
        assert self.recall(*views) > 0.36

    def test_loss_equals_eq_22(self, raw_data: HeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
        """Terms are means over the distinct items of the batch; the positive is in no history."""
        weights = {"prediction_weight": 2.0, "kl_weight": 0.3, "information_weight": 0.4, "label_weight": 0.5}
        model = self.build(raw_data, layout=LAYOUT, word_channels=8, **weights).eval()
        fixed = torch.arange(1, 30).tile(3)

        def steps(low: int, high: int, size: tuple[int, int], device: torch.device) -> Tensor:
            return fixed[: size[1]].clamp(max=high - 1).expand(size)

        monkeypatch.setattr(torch, "randint", steps)
        batch = Triplets(torch.tensor([0, 0, 9]), torch.tensor([4, 8, 5]), torch.tensor([7, 1, 2]))
        user, item = raw_data[INTERACTS].edge_index
        histories = [
            [i for i in item[user == u].tolist() if i != pos]
            for u, pos in zip(batch.user.tolist(), batch.pos_item.tolist(), strict=True)
        ]
        distinct = sorted({*batch.pos_item.tolist(), *batch.neg_item.tolist(), *itertools.chain(*histories)})
        out = model.encode(raw_data, torch.arange(30))
        entropy = []
        for row, history in enumerate(histories):
            for candidate, sign in ((batch.pos_item[row], 1), (batch.neg_item[row], -1)):
                score = model.interest(
                    out.item, candidate.view(1, 1), torch.tensor(history), torch.tensor([0, len(history)])
                )
                entropy.append(math.log1p(math.exp(-sign * score.item())))
        found = model.loss(raw_data, batch)
        assert found["bce"].item() == pytest.approx(2 * np.mean(entropy), rel=1e-4)

        pictured = torch.tensor([i for i in distinct if i != 5])
        code, x = out.code["image"].of(pictured), out.x["image"][pictured]
        rebuilt = model.branch["image"].decoder(out.part["image"][pictured].flatten(1))
        rec = reconstruction_loss(x, rebuilt, code.mean[0].numel()).mean()
        torch.testing.assert_close(found["reconstruction"], rec)
        torch.testing.assert_close(found["kl"], 0.3 * gaussian_kl(code.mean.flatten(1), code.log_var.flatten(1)).mean())
        worded = torch.tensor([i for i in distinct if i != 7])
        text = model.branch["text"]
        aspects = text.losses(out.x["text"][worded], out.code["text"].of(worded), out.part["text"][worded])["aspects"]
        torch.testing.assert_close(found["aspects"], aspects.mean())
        torch.testing.assert_close(found["orthogonality"], orthogonality_loss(text.aspect))
        logits = model.classifier["block"](out.code["image"].mean[:, 0]).log_softmax(1)
        labelled = [i for i in distinct if i < 10 and i != 5]  # the item without a picture tells nothing
        expected = 0.5 * np.mean([-logits[i, i % 4].item() for i in labelled])
        assert found["labels"].item() == pytest.approx(expected, rel=1e-4)
        torch.testing.assert_close(found["information"], 0.4 * model.fusion.information())

    def test_only_labels_that_are_there_count(self, raw_data: HeteroData) -> None:
        model = self.build(raw_data, layout=LAYOUT, word_channels=8)
        before = self.losses(model, raw_data)["labels"]
        before.backward()
        code = model.branch["text"].extract.weight.grad
        assert code is None or not code.any()  # the image dominates
        raw_data["item"].attr_block = torch.full((30,), -1)
        losses = self.losses(model, raw_data)
        assert losses["labels"] == 0
        model.zero_grad()
        losses["labels"].backward()
        assert not any(p.grad is not None and p.grad.any() for p in model.parameters())

    def test_a_label_counts_where_its_modality_is_there(self, raw_data: HeteroData) -> None:
        model = self.build(raw_data, layout=LAYOUT, word_channels=8)
        raw_data["item"].attr_block = torch.where(torch.arange(30) == 5, 1, -1)  # the item without a picture
        assert self.losses(model, raw_data)["labels"] == 0

    def test_leakage_is_that_into_all_other_parts(self, raw_data: HeteroData) -> None:
        """Of what items without sampling are, for those that show the attribute; nothing else gets a gradient."""
        model = self.build(raw_data, layout=LAYOUT, word_channels=8, leakage_weight=0.3, part_channels=3)
        out = model.eval().encode(raw_data, torch.arange(30))
        label = model.classifier["block"](out.code["image"].mean[:, 0]).softmax(1)
        pictured = torch.arange(30) != 5
        expected = 0.3 * leakage_loss(label[pictured], out.item[pictured, 3:])
        found = model.train().content_losses(raw_data, torch.arange(30), model.encode(raw_data, torch.arange(30)))
        torch.testing.assert_close(found["leakage"], expected)
        found["leakage"].backward()
        assert all(parameter.grad is None for parameter in model.classifier.parameters())
        assert not model.fusion.fuse["block"][0].weight.grad.any()
        assert model.fusion.fuse["tone"][0].weight.grad.any()
        assert "leakage" not in self.losses(self.build(raw_data, layout=LAYOUT, word_channels=8), raw_data)

    def test_without_information_constraint(self, raw_data: HeteroData) -> None:
        losses = self.losses(self.build(raw_data, information_weight=0.0, word_channels=8), raw_data)
        assert "information" not in losses
        assert "labels" not in losses

    def test_rebuilt_items(self, raw_data: HeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
        model, seen = self.build(raw_data, rebuilt_items=5, word_channels=8), []
        decoder = model.branch["image"].decoder.forward
        monkeypatch.setattr(model.branch["image"].decoder, "forward", lambda x: seen.append(len(x)) or decoder(x))
        self.losses(model, raw_data)
        assert seen == [5]

    def test_long_histories_are_cut(self, tiny_data: HeteroData) -> None:
        model, user = self.build(tiny_data, max_history=2), torch.arange(40)
        whole = self.build(tiny_data)
        everything, ptr = whole._histories(tiny_data, user)
        sets = [set(everything[a:b].tolist()) for a, b in itertools.pairwise(ptr)]
        drawn = []
        for training in (False, False, True, True):
            item, ptr = model.train(training)._histories(tiny_data, user)
            assert (ptr.diff() == 2).all()
            assert all(set(pair.tolist()) <= whole for pair, whole in zip(item.view(-1, 2), sets, strict=True))
            assert all(len(set(pair.tolist())) == 2 for pair in item.view(-1, 2))
            drawn.append(item)
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[2], drawn[3])

    def test_candidates_are_scored_in_blocks(self, tiny_data: HeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
        model = self.build(tiny_data).eval()
        out, user, item = model(tiny_data), torch.arange(40), torch.randint(30, (40, 7))
        whole = model.score(tiny_data, out, user, item)
        monkeypatch.setattr(content_din, "NUMBERS_AT_ONCE", 1)
        torch.testing.assert_close(model.score(tiny_data, out, user, item), whole)
        assert model.score(tiny_data, out, user[:0], item[:0]).shape == (0, 7)

    def test_explanations_add_up_to_the_score(self, raw_data: HeteroData) -> None:
        model = self.build(raw_data, layout=LAYOUT, word_channels=8).train()
        before = snapshot(raw_data)
        why = model.explain(raw_data, user=3, item=11)
        assert model.training
        assert_unchanged(raw_data, before)
        assert isinstance(why, ScoreExplanation)
        score = self.all_scores(model, raw_data)[3, 11].item()
        total = why.bias + sum(why.candidate.values()) + sum(float(part.sum()) for part in why.history.values())
        assert why.score == pytest.approx(score, abs=1e-5)
        assert total == pytest.approx(score, abs=1e-5)
        assert list(why.candidate) == list(why.history) == ["block", "tone", "price", "black_box"]
        user, item = raw_data[INTERACTS].edge_index
        assert sorted(why.item.tolist()) == sorted(item[user == 3].tolist())
        with pytest.raises(ValueError, match=r"^'item' must lie in 0..29 \(got 30\)$"):
            model.explain(raw_data, 0, 30)

    def test_parts(self, raw_data: HeteroData) -> None:
        model = self.build(raw_data, layout=LAYOUT, word_channels=8, part_channels=3)
        item = torch.tensor([4, 0])
        parts = model.parts(raw_data, item)
        assert {name: part.shape for name, part in parts.items()} == {
            "block": (2, 3),
            "tone": (2, 3),
            "price": (2, 3),
            "black_box": (2, 3),
        }
        torch.testing.assert_close(torch.cat(list(parts.values()), dim=1), model.eval()(raw_data).item[item])

    def test_labels(self, raw_data: HeteroData) -> None:
        model = self.build(raw_data, layout=LAYOUT, word_channels=8)
        logits = model.classifier["block"](model.eval().encode(raw_data, torch.arange(30)).code["image"].mean[:, 0])
        found = model.labels(raw_data)
        assert list(found) == ["block"]
        pictured = torch.arange(30) != 5
        assert torch.equal(found["block"][pictured], logits.argmax(1)[pictured])
        assert found["block"][5] == -1  # nothing to tell it from

    def test_features_as_wide_as_published_ones(self, tiny_data: HeteroData) -> None:
        """4096 of an image and 384 of a text; half the items lack the first, a third the second."""
        for name, width, lacking in (("image", 4096, 2), ("text", 384, 3)):
            mask = torch.arange(30) % lacking > 0
            tiny_data["item"][f"x_{name}"] = torch.randn(30, width) * mask.unsqueeze(1)
            tiny_data["item"][f"mask_{name}"] = mask
        model = self.build(tiny_data, layout=LAYOUT)
        assert model.in_channels == {"image": 4096, "text": 384}
        tiny_data["item"].attr_block = torch.arange(30) % 4
        losses = self.losses(model, tiny_data)
        torch.stack(list(losses.values())).sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
        assert self.all_scores(model, tiny_data).isfinite().all()

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("tokens", [[1, 2]], r"^data\['item'\].tokens must be a torch.int64 tensor of shape .* \(got list\)$"),
            ("tokens", torch.zeros(30, 0, dtype=torch.int64), r"^'num_words' must be at least 2 \(got 1\)$"),
            ("tokens", torch.ones(30, 3, dtype=torch.int64), r"^'word_channels' must be less than 0, the number of"),
            ("image", torch.zeros(30, 8, 8, dtype=torch.uint8), r"^data\['item'\].image must be .* \[30, 8, 8\]\)$"),
        ],
    )
    def test_raw_content_of_another_form(self, raw_data: HeteroData, key: str, value: Any, message: str) -> None:
        raw_data["item"][key] = value
        with pytest.raises(ValueError, match=message):
            self.build(raw_data, layout=LAYOUT)

    def test_given_word_vectors(self, raw_data: HeteroData) -> None:
        raw_data["word"].num_nodes, raw_data["word"].x = 20, torch.rand(20, 5)
        model = self.build(raw_data, layout=LAYOUT)
        assert torch.equal(model.branch["text"].word, raw_data["word"].x)
        with pytest.raises(ValueError, match=r"^data\['word'\].x must have shape \[20, 6\], .* \(got \[20, 5\]\)"):
            self.build(raw_data, word_channels=6)

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("image", torch.zeros(30, 1, 8, 8), r"^data\['item'\].image must be a torch.uint8 tensor of shape"),
            (
                "image",
                torch.zeros(30, 1, 8, 9, dtype=torch.uint8),
                r"^data\['item'\].image must hold pictures of \[1, 8, 8\]",
            ),
            (
                "tokens",
                torch.zeros(29, 3, dtype=torch.long),
                r"^data\['item'\].tokens must be a torch.int64 tensor of shape \[num_items, T\] \(",
            ),
            ("tokens", torch.full((30, 3), 13), r"^data\['item'\].tokens must lie in 0..12, .* \(got 13..13\)"),
            ("attr_block", torch.full((30,), 4), r"^data\['item'\].attr_block must lie in -1..3 \(got 4..4\)$"),
            (
                "attr_block",
                torch.zeros(30),
                r"^data\['item'\].attr_block must be an int64 tensor with a label for each",
            ),
        ],
    )
    def test_other_content_than_the_model_s(self, raw_data: HeteroData, key: str, value: Tensor, message: str) -> None:
        model = self.build(raw_data, layout=LAYOUT, word_channels=8)
        raw_data["item"][key] = value
        with pytest.raises(ValueError, match=message):
            self.losses(model, raw_data)

    @pytest.mark.parametrize(
        ("init_args", "message"),
        [
            (
                {"layout": {"modalities": {"loudness": ["audio"]}}},
                r"^'layout' names the modalities \['audio'\], but the ",
            ),
            ({"alpha": 2.0}, r"^'alpha' must lie in \[0, 1\] \(got 2.0\)$"),
            ({"image_shape": [3, 4]}, r"^'image_shape' must be channels, height and width \(got \[3, 4\]\)$"),
            ({"num_words": 1}, r"^'num_words' must be at least 2 \(got 1\)$"),
            ({"max_history": 0}, r"^'max_history' must be positive \(got 0\)$"),
            ({"rebuilt_items": 0}, r"^'rebuilt_items' must be positive \(got 0\)$"),
            ({"prediction_weight": 0.0}, r"^'prediction_weight' must be positive \(got 0.0\)$"),
            ({"leakage_weight": -1.0}, r"^'leakage_weight' must not be negative \(got -1.0\)$"),
            (
                {"leakage_weight": 1.0},
                r"^'leakage_weight' needs labelled attributes, which 'num_classes' of the layout",
            ),
            ({"information_weight": -1.0}, r"^'information_weight' must not be negative \(got -1.0\)$"),
        ],
    )
    def test_bad_arguments(self, tiny_data: HeteroData, init_args: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            self.build(tiny_data, **init_args)

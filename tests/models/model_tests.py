"""The tests that every exported model inherits."""

from __future__ import annotations

import copy
import inspect
import json
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.loader import HistoryLoader, TripletLoader
from pyg_mmrec.models import Popularity, Recommender, Representations
from pyg_mmrec.training import Trainer
from pyg_mmrec.transforms import ModalKNNGraph, UserCooccurrence, UserModalMean
from pyg_mmrec.typing import INTERACTS, feature_key, similar
from pyg_mmrec.utils import modalities, seen_items, similar_modalities, with_operators
from tests.models.draws import DrawnOnCPU

Views = tuple[HeteroData, HeteroData, HeteroData]
Model = TypeVar("Model", bound=Recommender)
#: The modalities of the graph that equations are tested on.
NAMES = ["audio", "image", "text"]


def snapshot(data: HeteroData) -> dict[tuple[Any, str], Any]:
    """Everything that a graph holds, tensors as copies."""
    return {
        (store._key, key): value.clone() if isinstance(value, Tensor) else value
        for store in data.stores
        for key, value in store.items()
    }


def assert_unchanged(data: HeteroData, before: dict[tuple[Any, str], Any]) -> None:
    after = snapshot(data)
    assert after.keys() == before.keys()
    for key, value in before.items():
        equal = torch.equal(after[key], value) if isinstance(value, Tensor) else after[key] == value
        assert equal, f"{key} has changed"


def to_double(data: HeteroData) -> HeteroData:
    """A copy with features and weights in double precision."""
    return copy.copy(data).apply(lambda value: value.double() if value.is_floating_point() else value)


def neighbors(x: Tensor, k: int = 5) -> Tensor:
    """Edges from each row's k nearest others by cosine to the row."""
    x = torch.nn.functional.normalize(x, dim=1)
    neighbor = (x @ x.t()).fill_diagonal_(-torch.inf).topk(k).indices
    return torch.stack([neighbor.flatten(), torch.arange(x.size(0)).repeat_interleave(k)])


def with_user_graphs(data: HeteroData) -> HeteroData:
    """A copy that links users by the mean features of their items, and by common items."""
    linked = ModalKNNGraph(k=5, node_type="user", overwrite=True)(UserModalMean()(data)) if modalities(data) else data
    data = copy.copy(data)
    for name in similar_modalities(data, "user"):
        del data[similar("user", name)]
    for name in modalities(data):
        data[similar("user", name)].update(linked[similar("user", name)].to_dict())
    return UserCooccurrence(k=5)(data)


def with_features(data: HeteroData, features: dict[str, Tensor]) -> HeteroData:
    """A copy whose items have these modalities and no others, with the kNN graphs of items and users."""
    data = copy.copy(data)
    for name in modalities(data):
        del data["item"][feature_key(name)], data[similar("item", name)]
    for name, x in features.items():
        data["item"][feature_key(name)] = x
        graph = data[similar("item", name)]
        graph.edge_index = neighbors(x)
        graph.edge_weight = torch.full((graph.edge_index.size(1),), 0.2)
    return with_user_graphs(data)


def cold_views(shuffle: bool) -> tuple[HeteroData, HeteroData]:
    """A train view in which half of the items have one misleading interaction, and a view that asks for these.

    60 users and 40 items are of one of four blocks each, and only features tell which block a cold item is of;
    ``shuffle`` deals the features out anew.
    """
    generator = torch.Generator().manual_seed(0)
    user_block, item_block = torch.arange(60) % 4, torch.arange(40) % 4
    cold = torch.arange(40) >= 20
    own = user_block.unsqueeze(1) == item_block
    train = own & ~cold
    for item in cold.nonzero().flatten().tolist():
        train[item + 1 + item // 4 % 3, item] = True  # a user of another block
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 60, 40
    data[INTERACTS].edge_index = train.nonzero().t().contiguous()
    order = torch.randperm(40, generator=generator) if shuffle else torch.arange(40)
    features = {}
    for name, width in (("image", 12), ("text", 8)):
        centre = torch.randn(4, width, generator=generator)
        x = centre[item_block] + 0.3 * torch.randn(40, width, generator=generator)
        features[name] = x[order]
    data = with_features(data, features)
    held_out = copy.copy(data)
    held_out[INTERACTS].edge_label_index = (own & cold & ~train).nonzero().t().contiguous()
    return data, held_out


class ModelTests(Generic[Model]):
    """What holds for every model; a subclass names the model and small sizes for it."""

    model_class: type[Model]
    init_args: ClassVar[dict[str, Any]] = {"hidden_channels": 16}
    #: Whether the model learns anything.
    trainable: ClassVar[bool] = True

    def build(self, data: HeteroData, seed: int = 0, **init_args: Any) -> Model:
        torch.manual_seed(seed)
        return self.model_class.from_data(data, **{**self.init_args, **init_args})

    def recall(self, train: HeteroData, val: HeteroData, test: HeteroData | None = None, seed: int = 0) -> float:
        """Recall@3 after a short training, on the test view where there is one."""
        trainer = Trainer(
            max_epochs=30,
            batch_size=64,
            learning_rate=0.02,
            monitor="recall@3",
            seed=seed,
            evaluator=Evaluator(["recall@3"]),
            accelerator="cpu",
            progress=False,
        )
        result = trainer.fit(self.build(train, seed), train, val, test)
        return (result.test or result.validation)["recall@3"]

    def batch(self, data: HeteroData) -> Any:
        loader = {"triplets": TripletLoader, "histories": HistoryLoader}[self.model_class.batches]
        return next(iter(loader(data, batch_size=128).epoch(0)))

    def losses(self, model: Recommender, data: HeteroData) -> dict[str, Tensor]:
        torch.manual_seed(1)
        return model.loss(data, self.batch(data))

    def all_scores(self, model: Recommender, data: HeteroData) -> Tensor:
        model.eval()
        with torch.no_grad():
            return model.score(data, model(data), torch.arange(model.num_users))

    def test_repr(self, tiny_data: HeteroData) -> None:
        assert repr(self.build(tiny_data)).startswith(f"{self.model_class.__name__}(")

    def test_representations(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data).eval()
        out = model(tiny_data)
        assert isinstance(out, Representations)
        matrices = {"item": (out.item, 30)} | ({} if out.user is None else {"user": (out.user, 40)})
        for pair in (out.behavior, out.modal):
            assert (pair is not None) == model.two_lines
            if pair is not None:
                matrices |= {f"{pair} user": (pair.user, 40), f"{pair} item": (pair.item, 30)}
        for named in (out.generic, out.unique):
            matrices |= {name: (part, 30) for name, part in (named or {}).items()}
        for name, (matrix, size) in matrices.items():
            assert matrix.dim() == 2, name
            assert matrix.size(0) == size, name
            assert matrix.isfinite().all(), name
        if out.user is not None:
            assert out.user.size(1) == out.item.size(1)

    def test_loss_terms_are_finite_scalars(self, tiny_data: HeteroData) -> None:
        losses = self.losses(self.build(tiny_data), tiny_data)
        assert bool(losses) == self.trainable
        for name, value in losses.items():
            assert value.shape == (), name
            assert value.isfinite(), name

    def test_every_parameter_gets_a_gradient(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data)
        auxiliary = {id(parameter) for parameter in model.auxiliary_parameters()}
        for term, inner in ((model.loss, False), (model.auxiliary_loss, True)):
            model.zero_grad()
            losses = list(term(tiny_data, self.batch(tiny_data)).values())
            if losses:
                torch.stack(losses).sum().backward()
            for name, parameter in model.named_parameters():
                if (id(parameter) in auxiliary) == inner:
                    assert parameter.grad is not None, name
                    assert parameter.grad.isfinite().all(), name
                    assert parameter.grad.abs().sum() > 0, name
        assert bool(list(model.parameters())) == self.trainable

    def test_state_dict_round_trip(self, tiny_data: HeteroData) -> None:
        one, two = self.build(tiny_data, seed=1), self.build(tiny_data, seed=2)
        if self.trainable:
            assert not torch.equal(self.all_scores(one, tiny_data), self.all_scores(two, tiny_data))
        two.load_state_dict(one.state_dict())
        assert torch.equal(self.all_scores(one, tiny_data), self.all_scores(two, tiny_data))

    def test_config_holds_the_arguments(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data)
        parameters = dict(inspect.signature(self.model_class.__init__).parameters)
        parameters.pop("self")
        expected = {name: parameter.default for name, parameter in parameters.items()} | self.init_args
        expected |= {"num_users": 40, "num_items": 30}
        if "in_channels" in parameters:
            expected["in_channels"] = {"image": 12, "text": 8}
        if "category" in tiny_data["item"]:
            expected["num_categories"] = 3
        assert model.config() == expected
        assert json.loads(json.dumps(model.config())) == expected
        twin = self.model_class(**model.config())
        twin.load_state_dict(model.state_dict())

    def test_save_pretrained_round_trip(self, tiny_data: HeteroData, tmp_path: Path) -> None:
        model = self.build(tiny_data)
        model.save_pretrained(tmp_path / "new" / "folder")
        for cls in (self.model_class, Recommender):
            loaded = cls.from_pretrained(tmp_path / "new" / "folder")
            assert type(loaded) is self.model_class
            assert loaded.config() == model.config()
            assert torch.equal(self.all_scores(loaded, tiny_data), self.all_scores(model, tiny_data))

    def test_same_seed_same_loss(self, tiny_data: HeteroData) -> None:
        one, two, other = (self.losses(self.build(tiny_data, seed), tiny_data) for seed in (3, 3, 4))
        assert one == two
        assert (one == other) == (not self.trainable)

    def test_reset_draws_the_parameters_anew(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data)
        states = [copy.deepcopy(model.state_dict())]
        for _ in range(2):
            torch.manual_seed(7)
            model.reset_parameters()
            states.append(copy.deepcopy(model.state_dict()))
        for name, before in states[0].items():
            assert torch.equal(states[1][name], states[2][name]), name
            if before.dim() == 2:
                assert not torch.equal(states[1][name], before), name

    def test_inputs_stay_unchanged(self, tiny_data: HeteroData) -> None:
        model, batch = self.build(tiny_data), self.batch(tiny_data)
        before, batch_before = snapshot(tiny_data), [part.clone() for part in batch]
        view = model.resample(tiny_data, torch.Generator().manual_seed(0))
        model.loss(view, batch)
        model.loss(tiny_data, batch)
        model.auxiliary_loss(tiny_data, batch)
        model.recommend(tiny_data, torch.arange(5))
        out = model(tiny_data)
        kept = [part.clone() for part in (out.user, out.item) if part is not None]
        model.score(tiny_data, out, torch.arange(4), torch.tensor([3, 1]))
        assert_unchanged(tiny_data, before)
        assert all(map(torch.equal, batch, batch_before))
        assert all(map(torch.equal, [part for part in (out.user, out.item) if part is not None], kept))

    def test_forward_stores_nothing(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data).eval()
        attributes, state = {name: set(vars(part)) for name, part in model.named_modules()}, model.state_dict()
        state = copy.deepcopy(state)
        first, second = self.all_scores(model, tiny_data), self.all_scores(model, tiny_data)
        model.loss(tiny_data, self.batch(tiny_data))
        assert torch.equal(first, second)
        assert {name: set(vars(part)) for name, part in model.named_modules()} == attributes
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())

    def test_all_tensors_move_with_the_model(self, tiny_data: HeteroData) -> None:
        for name, part in self.build(tiny_data).named_modules():
            loose = [key for key, value in vars(part).items() if isinstance(value, Tensor)]
            assert loose == [], f"{name} holds tensors that are neither parameters nor buffers"

    def test_double_precision(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data)
        single = self.all_scores(model, tiny_data)
        data = to_double(tiny_data)
        scores = self.all_scores(model.to(torch.float64), data)
        assert scores.dtype == (torch.float64 if self.trainable else torch.float32)
        torch.testing.assert_close(scores.float(), single, rtol=1e-4, atol=1e-5)
        assert all(value.dtype == torch.float64 for value in self.losses(model, data).values())

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
    def test_another_device(self, tiny_data: HeteroData) -> None:
        model, batch = self.build(tiny_data).eval(), self.batch(tiny_data)
        with DrawnOnCPU():
            found = self.outcome(model, tiny_data, batch)
            moved = type(batch)(*(part.to("cuda") for part in batch))
            other = self.outcome(model.to("cuda"), copy.copy(tiny_data).to("cuda"), moved)
        assert other.keys() == found.keys()
        for name, value in found.items():
            torch.testing.assert_close(
                other[name].cpu(), value, rtol=1e-4, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}"
            )

    def outcome(self, model: Recommender, data: HeteroData, batch: Any) -> dict[str, Tensor]:
        """Scores, losses and gradients by name."""
        found = {"scores": self.all_scores(model, data)}
        torch.manual_seed(1)
        for losses in (model.auxiliary_loss(data, batch), model.loss(data, batch)):
            found |= {name: value.detach() for name, value in losses.items()}
            total = sum(losses.values())
            if isinstance(total, Tensor) and total.requires_grad:
                total.backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                found[f"gradient of {name}"] = parameter.grad.clone()
        model.zero_grad()
        return found

    def test_outcome_is_reproducible(self, tiny_data: HeteroData) -> None:
        model, batch = self.build(tiny_data).eval(), self.batch(tiny_data)
        found = self.outcome(model, tiny_data, batch)
        with DrawnOnCPU():
            other = self.outcome(model, tiny_data, batch)
        assert other.keys() == found.keys()
        for name, value in found.items():  # products take other paths where each operation is looked at
            assert other[name].allclose(value, rtol=1e-5, atol=1e-6), name
        assert self.trainable == any(name.startswith("gradient") for name in found)

    def test_held_operators_change_nothing(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data)
        assert torch.equal(self.all_scores(model, tiny_data), self.all_scores(model, with_operators(tiny_data)))

    @pytest.mark.parametrize("training", [False, True])
    def test_recommend_never_returns_a_seen_item(self, tiny_data: HeteroData, training: bool) -> None:
        model = self.build(tiny_data).train(training)
        user = torch.arange(40).flip(0)
        scores, items = model.recommend(tiny_data, user, k=30, block_size=7)
        all_scores = self.all_scores(self.build(tiny_data), tiny_data)
        ptr, seen = seen_items(tiny_data)
        for row, u in enumerate(user.tolist()):
            left = set(range(30)) - set(seen[ptr[u] : ptr[u + 1]].tolist())
            assert set(items[row, : len(left)].tolist()) == left
            assert (items[row, len(left) :] == -1).all()
            assert (scores[row, len(left) :] == -torch.inf).all()
            found = all_scores[u, items[row, : len(left)]]
            torch.testing.assert_close(scores[row, : len(left)], found)
            assert (found.diff() <= 1e-6).all()
        assert model.training == training

    def test_recommend_with_seen_items(self, tiny_data: HeteroData) -> None:
        items = self.build(tiny_data).recommend(tiny_data, torch.tensor([3]), k=30, exclude_seen=False)[1]
        assert sorted(items.flatten().tolist()) == list(range(30))

    def test_scores_of_candidates_agree(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data).eval()
        out, user = model(tiny_data), torch.tensor([4, 0, 4])
        every = model.score(tiny_data, out, user)
        assert every.shape == (3, 30)
        same, by_user = torch.tensor([7, 2, 7, 29]), torch.tensor([[1, 2], [3, 3], [29, 0]])
        torch.testing.assert_close(model.score(tiny_data, out, user, same), every[:, same])
        torch.testing.assert_close(model.score(tiny_data, out, user, by_user), every.gather(1, by_user))

    def test_planted_blocks_are_recovered(self, tiny_split: Views) -> None:
        if not self.trainable:
            pytest.skip("there is nothing to train")
        floor = Evaluator(["recall@3"])(Popularity.from_data(tiny_split[0]), tiny_split[2])["recall@3"]
        recall = self.recall(*tiny_split)
        assert recall > 0.36  # three times chance: 3 of 25 unseen items
        assert recall > 2 * floor

    @pytest.mark.parametrize("size", ["num_users", "num_items"])
    def test_sizes_must_be_positive(self, tiny_data: HeteroData, size: str) -> None:
        with pytest.raises(ValueError, match=rf"^'{size}' must be positive \(got 0\)$"):
            self.build(tiny_data, **{size: 0})


class FeatureModelTests(ModelTests[Model]):
    """What holds for every model that reads features."""

    @pytest.fixture
    def data(self, tiny_data: HeteroData, request: pytest.FixtureRequest) -> HeteroData:
        """The tiny graph with as many modalities as the test asks for, three by default."""
        x = {"audio": torch.rand(30, 5), "image": tiny_data["item"].x_image, "text": tiny_data["item"].x_text}
        names = NAMES[: getattr(request, "param", 3)]
        return self.changed(with_features(tiny_data, {name: x[name] for name in names}))

    def changed(self, data: HeteroData) -> HeteroData:
        """What a subclass changes of this graph."""
        return data

    def drawn(self, data: HeteroData, **init_args: Any) -> Model:
        """A model none of whose biases are zero."""
        model = self.build(data, **init_args)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.uniform_(-0.5, 0.5)
        return model

    @pytest.mark.parametrize("names", [["text"], ["image", "text"], ["audio", "image", "text"]], ids="-".join)
    def test_one_two_and_three_modalities(self, tiny_data: HeteroData, names: list[str]) -> None:
        features = {"audio": torch.rand(30, 5), "image": tiny_data["item"].x_image, "text": tiny_data["item"].x_text}
        data = with_features(tiny_data, {name: features[name] for name in names})
        model = self.build(data)
        assert model.config()["in_channels"] == {name: features[name].size(1) for name in names}
        self.test_every_parameter_gets_a_gradient(data)
        assert self.all_scores(model, data).isfinite().all()

    def test_every_modality_counts(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data)
        losses = self.losses(model, tiny_data)
        for name in ("image", "text"):
            features = {key: tiny_data["item"][feature_key(key)] for key in ("image", "text")}
            features[name] = features[name].flip(0)
            assert self.losses(model, with_features(tiny_data, features)) != losses, name

    def test_items_without_a_modality(self, tiny_data: HeteroData) -> None:
        tiny_data["item"].mask_image = torch.arange(30) % 3 > 0
        self.test_every_parameter_gets_a_gradient(tiny_data)
        assert self.all_scores(self.build(tiny_data), tiny_data).isfinite().all()

    def test_features_of_another_width(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data)
        tiny_data["item"].x_text = torch.rand(30, 9)
        with pytest.raises(ValueError, match=r"^data\['item'\].x_text must have width 8, .* \(got width 9\)$"):
            self.losses(model, tiny_data)

    def test_no_modality(self, tiny_data: HeteroData) -> None:
        with pytest.raises(ValueError, match=r"^'in_channels' names no modality: "):
            self.build(with_features(tiny_data, {}))

    def test_shuffled_features_hurt(self) -> None:
        found = [self.recall(*cold_views(shuffle=False), seed=seed) for seed in range(2)]
        shuffled = [self.recall(*cold_views(shuffle=True), seed=seed) for seed in range(2)]
        assert min(found) > max(shuffled) + 0.2

from __future__ import annotations

import math
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.datasets import AttributeShop, _draw, attribute_shop
from pyg_mmrec.datasets._describe import DISTRACTORS, SYNONYMS, VOCABULARY, word_weights
from pyg_mmrec.datasets._render import image_statistics
from pyg_mmrec.typing import INTERACTS

YEAR = 365 * 24 * 3600
SMALL = {"num_users": 80, "num_items": 100}


@pytest.fixture(scope="module")
def timed_shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[AttributeShop, float]:
    start = time.process_time()
    shop = AttributeShop(tmp_path_factory.mktemp("shop"))
    return shop, time.process_time() - start


@pytest.fixture(scope="module")
def shop(timed_shop: tuple[AttributeShop, float]) -> AttributeShop:
    return timed_shop[0]


@pytest.fixture(scope="module")
def data(shop: AttributeShop) -> HeteroData:
    return shop[0]


def tensors(data: HeteroData) -> dict[tuple[object, str], Tensor]:
    return {(s._key, name): value for s in data.stores for name, value in s.items() if isinstance(value, Tensor)}


def assert_same(left: HeteroData, right: HeteroData) -> None:
    assert left.to_dict().keys() == right.to_dict().keys()
    assert tensors(left).keys() == tensors(right).keys()
    for name, value in tensors(left).items():
        assert value.dtype == tensors(right)[name].dtype
        assert torch.equal(value, tensors(right)[name]), name


def test_the_default_is_made_quickly_and_has_the_documented_keys(timed_shop: tuple[AttributeShop, float]) -> None:
    data, seconds = timed_shop[0][0], timed_shop[1]
    assert seconds < 20
    assert (data["user"].num_nodes, data["item"].num_nodes) == (3000, 2000)
    item, edges = data["item"], data[INTERACTS]
    assert item.image.shape == (2000, 3, 32, 32)
    assert item.image.dtype == torch.uint8
    assert item.tokens.dtype == torch.int64
    assert item.x_image.shape == item.x_text.shape == (2000, 64)
    assert item.x_image.dtype == item.x_text.dtype == torch.float32
    assert item.x_image.isfinite().all()
    assert item.x_text.isfinite().all()
    for name, values in AttributeShop.attributes.items():
        count = torch.bincount(item[f"attr_{name}"], minlength=len(values))
        assert count.numel() == len(values)
        assert int(count.max() - count.min()) <= 1
    assert torch.equal(item.category, item.attr_shape)
    assert edges.edge_index.dtype == edges.time.dtype == edges.intent.dtype == torch.int64
    data.validate()


def test_same_arguments_give_the_same_data_in_any_folder(tmp_path: Path) -> None:
    assert_same(AttributeShop(tmp_path / "a", **SMALL)[0], AttributeShop(tmp_path / "b", **SMALL)[0])


def test_another_seed_gives_another_shop(tmp_path: Path) -> None:
    left, right = (tensors(AttributeShop(tmp_path, **SMALL, seed=seed)[0]) for seed in (0, 1))
    constant = {("item", "release_time")}
    same = {name for name, value in left.items() if value.shape == right[name].shape and value.equal(right[name])}
    assert same <= constant


def test_the_catalogue_does_not_depend_on_the_users(tmp_path: Path) -> None:
    left = AttributeShop(tmp_path, num_users=80, num_items=100)[0]["item"]
    right = AttributeShop(tmp_path, num_users=30, num_items=100, preference_strength=2, noise=0.5)[0]["item"]
    for name in ("image", "tokens", "x_image", "x_text", "attr_colour", "release_time"):
        assert left[name].equal(right[name])
    assert not left.affinity.equal(right.affinity)


def test_the_cache_is_loaded_and_the_options_decide_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = AttributeShop(tmp_path, **SMALL)
    options = [{"seed": 1}, {"noise": 0.2}, {"cold_fraction": 0.1}, {"preference_strength": 2}]
    options += [{"popularity_exponent": 1}, {"interactions_per_user": 6}, {"num_users": 81}, {"num_items": 101}]
    names = {AttributeShop(tmp_path, **{**SMALL, **option}).processed_paths[0] for option in options}
    assert len(names | {made.processed_paths[0]}) == len(options) + 1
    assert {str(path) for path in (tmp_path / "processed").iterdir()} == names | {made.processed_paths[0]}

    def never(*args: object) -> None:
        raise AssertionError("generated again")

    monkeypatch.setattr(attribute_shop, "generate", never)
    assert_same(AttributeShop(tmp_path, **SMALL, noise=np.float64(0.1))[0], made[0])
    with pytest.raises(AssertionError, match="generated again"):
        AttributeShop(tmp_path, **SMALL, force_reload=True)
    monkeypatch.setattr(_draw, "VERSION", _draw.VERSION + 1)
    with pytest.raises(AssertionError, match="generated again"):
        AttributeShop(tmp_path, **SMALL)


@pytest.mark.parametrize("content", [b"", b"not a cache", None])
def test_a_broken_cache_is_made_anew(tmp_path: Path, content: bytes | None) -> None:
    made = AttributeShop(tmp_path, **SMALL)
    path = Path(made.processed_paths[0])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.warns(UserWarning, match="not a usable cache") as record:
        again = AttributeShop(tmp_path, **SMALL)
    assert record[0].filename == __file__
    assert_same(made[0], again[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AttributeShop(tmp_path, **SMALL)


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        AttributeShop(tmp_path, **SMALL)
    assert list((tmp_path / "processed").iterdir()) == []


def test_a_transform_is_applied_at_access(tmp_path: Path) -> None:
    def mark(data: HeteroData) -> HeteroData:
        data["item"].marked = True
        return data

    shop = AttributeShop(tmp_path, **SMALL, transform=mark)
    assert shop[0]["item"].marked
    assert "marked" not in AttributeShop(tmp_path, **SMALL)[0]["item"]


def test_planted_probabilities_sum_to_one(data: HeteroData) -> None:
    user, affinity = data["user"], data["item"].affinity.double()
    intent, preference = user.intent.double(), user.preference.double()
    assert (intent.shape, preference.shape, affinity.shape) == ((3000, 8), (3000, 129), (2000, 129))
    torch.testing.assert_close(intent.sum(dim=1), torch.ones(3000).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(affinity.sum(dim=0), torch.ones(129).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close((preference @ affinity.T).sum(dim=1), torch.ones(3000).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(preference[:, 128], torch.full((3000,), 0.1).double(), atol=1e-6, rtol=0)
    tastes = preference[:, :128].view(3000, 8, 16)
    torch.testing.assert_close(tastes.sum(dim=2), 0.9 * intent, atol=1e-6, rtol=0)
    assert bool(((tastes > 0).sum(dim=2) == (intent > 0)).all()), "one taste of each intent that a user has"
    assert set(torch.unique((intent > 0).sum(dim=1)).tolist()) == {1, 2, 3}
    share, dominant = intent.max(dim=1)
    assert torch.equal(dominant, user.dominant_intent)
    torch.testing.assert_close(share, user.dominant_share.double(), atol=1e-6, rtol=0)


def test_affinity_is_popularity_times_preference(tmp_path: Path) -> None:
    item = AttributeShop(tmp_path, num_users=10, num_items=1200, preference_strength=6, popularity_exponent=0.8)[0][
        "item"
    ]
    affinity = item.affinity.double().numpy()
    by_rank = np.sort(affinity[:, 128])[::-1]
    np.testing.assert_allclose(by_rank[0] / by_rank[[1, 9, 999]], np.array([2, 10, 1000]) ** 0.8, rtol=1e-5)
    lift = np.log(affinity[:, :128] / affinity[:, 128:])
    matches = (lift - lift.min(axis=0)) / 6 * 5  # every taste leaves some item without a match
    np.testing.assert_allclose(matches, matches.round(), atol=1e-4)
    liked_values = 0.0
    for name, values in AttributeShop.attributes.items():
        value = item[f"attr_{name}"].numpy()
        mean = np.array([matches[value == index].mean(axis=0) for index in range(len(values))])
        liked = mean > (mean.max(axis=0) + mean.min(axis=0)) / 2
        assert (liked.sum(axis=0) == 1).all(), "a taste likes one value of each attribute"
        by_intent = liked.reshape(len(values), 8, 16).any(axis=2)
        assert (by_intent.sum(axis=0) == (1 if name == "size" else 2)).all(), "an intent likes two, or one size"
        assert by_intent.any(axis=1).all(), "every value is liked by some intent"
        liked_values = liked_values + liked[value]
    np.testing.assert_array_equal(liked_values, matches.round())
    by_intent = matches.round().reshape(-1, 8, 16)
    assert all(len(np.unique(by_intent[:, intent], axis=1).T) == 16 for intent in range(8)), "tastes differ"


def test_interactions_obey_the_rules(data: HeteroData) -> None:
    (user, item), moment = data[INTERACTS].edge_index, data[INTERACTS].time
    assert torch.equal(torch.from_numpy(np.lexsort((moment.numpy(), user.numpy()))), torch.arange(user.numel()))
    assert torch.unique(user * 2000 + item).numel() == user.numel()
    count = torch.bincount(user, minlength=3000)
    assert int(count.min()) == 5
    assert 11.5 < float(count.float().mean()) < 12.5
    assert bool((moment >= data["item"].release_time[item]).all())
    assert 0 <= int(moment.min()) <= int(moment.max()) < YEAR
    source = data[INTERACTS].intent
    assert 0.09 < float((source == -1).float().mean()) < 0.11
    drawn = source >= 0
    assert bool((data["user"].intent[user[drawn], source[drawn]] > 0).all())


def test_cold_items_come_late_and_are_rare(data: HeteroData) -> None:
    release = data["item"].release_time
    cold = release > 0
    assert int(cold.sum()) == 100
    assert YEAR * 0.9 <= int(release[cold].min()) <= int(release.max()) < YEAR
    count = torch.bincount(data[INTERACTS].edge_index[1], minlength=2000).float()
    assert 0 < float(count[cold].mean()) < 0.15 * float(count[~cold].mean())


def test_interactions_follow_the_planted_probabilities(tmp_path: Path) -> None:
    shop = AttributeShop(tmp_path, 15000, 300, interactions_per_user=5, cold_fraction=0, preference_strength=3)
    data = shop[0]
    item, source = data[INTERACTS].edge_index[1], data[INTERACTS].intent
    user = data[INTERACTS].edge_index[0]
    taste = data["user"].preference[:, :128].view(-1, 8, 16).argmax(dim=2)
    affinity = data["item"].affinity.double()
    for intent in range(-1, 8):
        drawn = item[source == intent]
        column = 16 * intent + taste[user[source == intent], intent] if intent >= 0 else torch.full_like(drawn, 128)
        expected = affinity @ torch.bincount(column, minlength=129).double()
        chi_square = float(((torch.bincount(drawn, minlength=300) - expected).square() / expected).sum())
        assert chi_square / 299 < 1.6, "refused repeats leave a small excess over one"
    expected = 0.9 * data["user"].intent[user].sum(dim=0)
    drawn = torch.bincount(source[source >= 0], minlength=8)
    torch.testing.assert_close(drawn.float(), expected, rtol=0.05, atol=0)


def test_few_items_and_extreme_options_still_give_enough_interactions(tmp_path: Path) -> None:
    options = {"interactions_per_user": 5, "cold_fraction": 0.5, "preference_strength": 30, "popularity_exponent": 3}
    data = AttributeShop(tmp_path, 200, 20, noise=0, **options)[0]
    user, item = data[INTERACTS].edge_index
    assert torch.bincount(user).tolist() == [5] * 200
    assert torch.unique(user * 20 + item).numel() == 1000
    assert bool((data[INTERACTS].time >= data["item"].release_time[item]).all())


def test_noise_alone_means_popularity_alone(tmp_path: Path) -> None:
    data = AttributeShop(tmp_path, **SMALL, noise=1)[0]
    assert data["user"].preference[:, :128].abs().sum() == 0
    assert (data[INTERACTS].intent == -1).all()


def test_blocks_of_users_join_without_seams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_draw, "USER_BLOCK", 7)
    data = AttributeShop(tmp_path, 80, 100)[0]
    (user, item), moment = data[INTERACTS].edge_index, data[INTERACTS].time
    assert torch.equal(torch.from_numpy(np.lexsort((moment.numpy(), user.numpy()))), torch.arange(user.numel()))
    assert int(torch.bincount(user, minlength=80).min()) >= 5
    assert torch.unique(user * 100 + item).numel() == user.numel()
    drawn = data[INTERACTS].intent >= 0
    assert bool((data["user"].intent[user[drawn], data[INTERACTS].intent[drawn]] > 0).all())


def test_features_are_functions_of_images_and_texts(data: HeteroData) -> None:
    item = data["item"]
    parts = np.concatenate([image_statistics(part) for part in np.array_split(item.image.numpy(), 7)])
    np.testing.assert_allclose(_draw._principal_components(parts), item.x_image, atol=2e-5)
    weights = word_weights(item.tokens.numpy())
    np.testing.assert_allclose(np.linalg.norm(weights, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(_draw._principal_components(weights), item.x_text, atol=2e-5)
    for x in (item.x_image.double(), item.x_text.double()):
        covariance = torch.cov(x.T)
        variance = covariance.diag()
        assert bool((variance[:-1] >= variance[1:] - 1e-6).all())
        assert float((covariance - variance.diag()).abs().max()) < 1e-4 * float(variance.max())


def test_word_weights_match_a_plain_loop() -> None:
    tokens = np.array([[1, 2, 2, 0], [1, 3, 0, 0], [4, 1, 2, 3]])
    expected = np.zeros((3, len(VOCABULARY)))
    for row, words in enumerate(tokens):
        for word in words[words > 0]:
            documents = sum(word in other for other in tokens)
            expected[row, word] += 1 + math.log(4 / (1 + documents))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(word_weights(tokens), expected[:, 1:], rtol=1e-6)


def test_texts_name_the_right_values_and_never_the_texture(shop: AttributeShop, data: HeteroData) -> None:
    tokens = data["item"].tokens
    padding = tokens == 0
    assert bool((padding[:, 1:] >= padding[:, :-1]).all()), "padding comes last"
    assert int(tokens.max()) < len(shop.vocabulary)
    assert shop.vocabulary[0] == ""
    assert len(set(shop.vocabulary)) == len(shop.vocabulary)
    for name, values in SYNONYMS.items():
        assert tuple(values) == AttributeShop.attributes[name]
        meaning = torch.full((len(VOCABULARY),), -1)
        for index, words in enumerate(values.values()):
            assert len(words) >= 3
            meaning[[VOCABULARY.index(word) for word in words]] = index
        named = meaning[tokens]
        value = data["item"][f"attr_{name}"][:, None]
        assert bool(((named == -1) | (named == value)).all())
        assert 0.9 < float((named >= 0).any(dim=1).float().mean()) < 1, "left out now and then"
        assert torch.unique(tokens[named >= 0]).numel() == sum(len(words) for words in values.values())
    assert not {word for word in VOCABULARY if "strip" in word or word in ("plain", "checks", "dots")}
    assert {word for words in DISTRACTORS.values() for word in words} <= set(VOCABULARY)


def test_text_reads_as_sentences(shop: AttributeShop, data: HeteroData) -> None:
    text = shop.text(7)
    words = [shop.vocabulary[token] for token in data["item"].tokens[7].tolist() if token]
    assert text.lower().replace(".", " .").split() == words
    assert text[0].isupper()
    assert text.endswith(".")
    assert text.count(".") == 2
    with pytest.raises(ValueError, match=r"'item' must lie in 0\.\.1999 \(got 2000\)"):
        shop.text(2000)


def test_the_text_length_does_not_depend_on_the_size(tmp_path: Path, data: HeteroData) -> None:
    assert AttributeShop(tmp_path, **SMALL)[0]["item"].tokens.size(1) == data["item"].tokens.size(1)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_attributes_are_visible_where_they_should_be(data: HeteroData, modality: str) -> None:
    x = data["item"][f"x_{modality}"].numpy()
    for name, values in AttributeShop.attributes.items():
        target = data["item"][f"attr_{name}"].numpy()
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(x[:1500], target[:1500])
        accuracy = probe.score(x[1500:], target[1500:])
        if modality in AttributeShop.visible_in[name]:
            assert accuracy > (0.9 if modality == "image" else 0.8), (name, accuracy)
        else:
            assert accuracy < 1 / len(values) + 0.07, (name, accuracy)


def test_neighbours_in_feature_space_share_attributes(data: HeteroData) -> None:
    for modality, least in (("image", 2.0), ("text", 1.8)):
        x = torch.nn.functional.normalize(data["item"][f"x_{modality}"], dim=1)
        neighbour = (x @ x.T).fill_diagonal_(-1).topk(10).indices
        lift = 0.0
        visible = [name for name, where in AttributeShop.visible_in.items() if modality in where]
        for name in visible:
            value = data["item"][f"attr_{name}"]
            share = (value[neighbour] == value[:, None]).float().mean()
            lift += float(share) * len(AttributeShop.attributes[name]) / len(visible)
        assert lift > least, (modality, lift)


def test_the_planted_probabilities_beat_popularity_on_held_out_interactions(data: HeteroData) -> None:
    user, item = data[INTERACTS].edge_index.numpy()
    held_out = np.random.default_rng(0).random(user.size) < 0.2
    popularity = np.bincount(item[~held_out], minlength=2000)[None].repeat(3000, axis=0).astype(float)
    oracle = (data["user"].preference @ data["item"].affinity.T).double().numpy()
    recall = []
    for score in (popularity, oracle):
        score[user[~held_out], item[~held_out]] = -np.inf
        top = np.zeros(score.shape, dtype=bool)
        np.put_along_axis(top, np.argpartition(-score, 20, axis=1)[:, :20], True, axis=1)
        hits = np.bincount(user[held_out], top[user[held_out], item[held_out]], minlength=3000)
        relevant = np.bincount(user[held_out], minlength=3000)
        recall.append((hits[relevant > 0] / relevant[relevant > 0]).mean())
    assert recall[1] > 3 * recall[0], recall
    assert recall[0] > 0.02, recall


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("num_users", 0),
        ("num_users", 2.5),
        ("num_users", True),
        ("num_items", 19),
        ("seed", -1),
        ("interactions_per_user", 4.9),
        ("interactions_per_user", 26),
        ("preference_strength", -1),
        ("preference_strength", "high"),
        ("popularity_exponent", math.nan),
        ("noise", 1.1),
        ("cold_fraction", 0.6),
        ("cold_fraction", math.inf),
    ],
)
def test_arguments_out_of_range_are_named_in_one_line(tmp_path: Path, argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^'{argument}' must be .* \(got {value!r}\)$"):
        AttributeShop(tmp_path, **{**SMALL, argument: value})
    assert not list(tmp_path.iterdir())

import json

import pytest
import torch

from pyg_mmrec.utils import Ids


@pytest.fixture
def ids():
    return Ids(user=["ann", "bob", "7"], item=[501, 88, -13])


def test_nodes_and_ids_are_inverse(ids):
    assert ids.sizes() == (3, 3)
    for node_type in ("user", "item"):
        nodes = torch.tensor([2, 0, 2])
        assert torch.equal(ids.nodes(node_type, ids.of(node_type, nodes)), nodes)
    assert ids.of("item", [0]) == [501]


def test_nodes_that_are_not_there(ids):
    with pytest.raises(
        ValueError, match=r"^item nodes must lie in 0..2 \(got -1\); leave out the -1 .*: row\[row >= 0\]$"
    ):
        ids.of("item", torch.tensor([1, -1]))
    with pytest.raises(ValueError, match=r"^user nodes must lie in 0..2 \(got 3\)$"):
        ids.of("user", [3])
    for call in (lambda: ids.of("users", [0]), lambda: ids.nodes("users", []), lambda: ids.find("users", "ann")):
        with pytest.raises(ValueError, match=r"^'node_type' must be one of user, item \(got 'users'\)$"):
            call()


def test_digits_are_integers_where_ids_are(ids):
    assert ids.nodes("item", ["88", "-13"]).tolist() == [1, 2]
    assert ids.nodes("user", ["7"]).tolist() == [2]


def test_unknown_ids_name_the_nearest(ids):
    with pytest.raises(ValueError, match=r"there is no user 'bobb'; did you mean 'bob'\?"):
        ids.nodes("user", ["ann", "bobb"])
    with pytest.raises(ValueError, match="there is no item 'x'"):
        ids.nodes("item", ["x"])
    with pytest.raises(ValueError, match="there is no user 7"):
        ids.nodes("user", [7])


def test_saved_ids_are_read_back(ids, tmp_path):
    ids.save(tmp_path)
    assert Ids.load(tmp_path) == ids
    assert Ids.load(tmp_path) != Ids(user=["ann"], item=[1])
    assert ids.nodes("user", []).dtype == torch.int64


@pytest.mark.parametrize(
    ("user", "found"),
    [([1, "a"], "int, str"), ([1.5], "float"), ([True, False], "bool"), (["a", "b", "a"], "'a' twice")],
)
def test_bad_ids_are_refused(user, found):
    with pytest.raises(ValueError, match=f"'user' ids must .*{found}"):
        Ids(user=user, item=["x"])


@pytest.mark.parametrize("text", ["", "[]", '{"user": ["a"]}', json.dumps({"user": ["a", 1], "item": ["b"]})])
def test_a_damaged_file_is_refused(text, tmp_path):
    (tmp_path / "ids.json").write_text(text)
    with pytest.raises(ValueError, match=r"ids\.json' is no file of ids"):
        Ids.load(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no ids\.json"):
        Ids.load(tmp_path)


def test_one_id_is_found() -> None:
    ids = Ids(user=[5, -3, 2**60], item=["a", "7", ""])
    assert [ids.find("user", name) for name in (5, "5", "-3", str(2**60), -3)] == [0, 0, 1, 2, 1]
    assert [ids.find("user", name) for name in (4, "x", "", "9" * 5000, 10**30, "1e3")] == [None] * 6
    assert [ids.find("item", name) for name in ("a", "7", "", "b", 7)] == [0, 1, 2, None, None]

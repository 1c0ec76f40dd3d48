from __future__ import annotations

import asyncio
import io
import json
import threading
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from torch_geometric.data import HeteroData

from pyg_mmrec.models import BPRMF, ModelCard
from pyg_mmrec.retrieval import Retriever
from pyg_mmrec.serve import Catalogue, create_app
from pyg_mmrec.serve.batching import Batcher, Overloaded, Request
from pyg_mmrec.utils import Ids


def expected(catalogue: Catalogue, user: int, k: int, exclude_seen: bool = True) -> list[int]:
    """Ids of what the model recommends."""
    retriever = catalogue.retriever
    _, items = retriever.model.recommend(retriever.data, torch.tensor([user]), k, exclude_seen)  # type: ignore[attr-defined]
    return [100 + int(item) for item in items[0] if item >= 0]


def post(client: Any, body: Any) -> Any:
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    return client.post("/recommendations", content=content, headers={"content-type": "application/json"})


def test_recommendations_are_those_of_the_model(client: Any, catalogue: Catalogue) -> None:
    answer = client.get("/recommendations", params={"user": "u/3", "k": 4})
    assert answer.status_code == 200
    assert answer.json()["user"] == "u/3"
    items = answer.json()["items"]
    assert [one["item"] for one in items] == expected(catalogue, 3, 4)
    assert [one["score"] for one in items] == sorted((one["score"] for one in items), reverse=True)
    assert items[0]["text"] == "red cup"


def test_seen_items_are_left_out_unless_asked_for(client: Any, catalogue: Catalogue) -> None:
    past = client.get("/history", params={"user": "u/3"}).json()
    seen = {one["item"] for one in past["items"]}
    assert past["total"] == len(seen) == 5
    assert seen == {100 + int(item) for item in catalogue.retriever.data["user"].seen_item[15:20]}
    answer = post(client, {"users": ["u/3"], "k": 20}).json()[0]["items"]
    assert not seen & {one["item"] for one in answer}
    both = post(client, {"users": ["u/3"], "k": 20, "exclude_seen": False}).json()[0]["items"]
    assert [one["item"] for one in both] == expected(catalogue, 3, 20, exclude_seen=False)


def test_the_latest_of_a_history_comes_first(client: Any, catalogue: Catalogue) -> None:
    past = client.get("/history", params={"user": "u/3", "limit": 2}).json()
    edges = catalogue.retriever.data["user", "interacts", "item"].edge_index
    assert [one["item"] for one in past["items"]] == (edges[1][edges[0] == 3].flip(0)[:2] + 100).tolist()


def test_several_users(client: Any, catalogue: Catalogue) -> None:
    answer = post(client, {"users": ["u/9", "u/2", "u/9"], "k": 3}).json()
    assert [one["user"] for one in answer] == ["u/9", "u/2", "u/9"]
    for one, user in zip(answer, (9, 2, 9), strict=True):
        assert [item["item"] for item in one["items"]] == expected(catalogue, user, 3)


def test_an_explanation_names_the_history(client: Any) -> None:
    past = client.get("/history", params={"user": "u/3"}).json()
    answer = client.get("/explanation", params={"user": "u/3", "item": 101}).json()
    assert answer["kind"] == "history"
    assert {one["item"] for one in answer["items"]} <= {one["item"] for one in past["items"]}
    assert sum(one["share"] for one in answer["items"]) == pytest.approx(1, abs=1e-5)


def test_pictures(client: Any, catalogue: Catalogue) -> None:
    image_of = pytest.importorskip("PIL.Image")
    answer = client.get("/image", params={"item": 105})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    picture = torch.tensor(list(image_of.open(io.BytesIO(answer.content)).convert("RGB").tobytes()), dtype=torch.uint8)
    assert torch.equal(picture.view(8, 8, 3).permute(2, 0, 1), catalogue.retriever.data["item"].image[5])
    assert client.get("/image", params={"item": 103}).status_code == 404  # has none


def test_states(client: Any) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready"}
    facts = client.get("/model").json()
    assert (facts["model"], facts["num_users"], facts["max_k"], facts["licence"]) == ("BPRMF", 40, 20, "mit")
    assert facts["metrics"] == {"test_recall@20": 0.5}
    assert client.get("/users", params={"offset": 38}).json() == {"total": 40, "users": ["u/38", "u/39"]}
    assert client.get("/users", params={"offset": 10**18}).json()["users"] == []


def test_openapi_names_all_addresses(client: Any) -> None:
    schema = client.get("/openapi.json").json()
    paths = {"/explanation", "/health", "/history", "/image", "/model", "/ready", "/recommendations", "/users"}
    assert set(schema["paths"]) == paths
    k = next(one for one in schema["paths"]["/recommendations"]["get"]["parameters"] if one["name"] == "k")
    assert (k["schema"]["minimum"], k["schema"]["maximum"]) == (1, 20)


def test_the_page_loads_nothing_from_elsewhere(client: Any) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"].startswith("default-src 'none';")
    assert "http://" not in answer.text
    assert "https://" not in answer.text


BAD = [
    ("GET", "/recommendations", None, 422),
    ("GET", "/recommendations?user=", None, 422),
    ("GET", "/recommendations?user=" + "9" * 300, None, 422),
    ("GET", "/recommendations?user=nobody", None, 404),
    ("GET", "/recommendations?user=u/3&k=0", None, 422),
    ("GET", "/recommendations?user=u/3&k=21", None, 422),
    ("GET", "/recommendations?user=u/3&k=two", None, 422),
    ("GET", "/recommendations?user=u/3&exclude_seen=perhaps", None, 422),
    ("GET", "/recommendations?user=%ff%00", None, 404),
    ("GET", "/history?user=nobody", None, 404),
    ("GET", "/explanation?user=u/3&item=99", None, 404),
    ("GET", "/explanation?user=u/3", None, 422),
    ("GET", "/image?item=1_05", None, 404),
    ("GET", "/image?item=" + "1" * 200, None, 404),
    ("GET", "/users?offset=-1", None, 422),
    ("GET", "/nothing", None, 404),
    ("DELETE", "/recommendations", None, 405),
    ("POST", "/recommendations", "", 422),
    ("POST", "/recommendations", "{", 422),
    ("POST", "/recommendations", "[" * 1900, 400),
    ("POST", "/recommendations", b"\xff\xfe{}", 400),
    ("POST", "/recommendations", "null", 422),
    ("POST", "/recommendations", '{"users": []}', 422),
    ("POST", "/recommendations", '{"users": "u/3"}', 422),
    ("POST", "/recommendations", '{"users": ["u/1", "u/1", "u/1", "u/1", "u/1", "u/1"]}', 422),
    ("POST", "/recommendations", '{"users": [true]}', 422),
    ("POST", "/recommendations", '{"users": [3]}', 404),
    ("POST", "/recommendations", '{"users": ["u/3", "nobody"]}', 404),
    ("POST", "/recommendations", '{"users": ["\\ud800"]}', 422),
    ("POST", "/recommendations", '{"users": ["u/3"], "k": NaN}', 422),
    ("POST", "/recommendations", '{"users": ["u/3"], "k": 1e400}', 422),
    ("POST", "/recommendations", '{"users": ["u/3"], "k": "3"}', 422),
    ("POST", "/recommendations", '{"users": ["u/3"], "k": 21}', 422),
    ("POST", "/recommendations", '{"users": ["u/3"], "k": ' + "9" * 1000 + "}", 422),
    ("POST", "/recommendations", '{"users": ["u/3"], "kk": 3}', 422),
    ("POST", "/recommendations", '{"users": ["' + "x" * 2000 + '"]}', 413),
    ("POST", "/health", "x" * 2001, 413),
]


def test_bad_requests_get_a_4xx_and_the_service_goes_on(client: Any, catalogue: Catalogue) -> None:
    for method, path, body, status in BAD:
        headers = {"content-type": "application/json"} if body is not None else {}
        answer = client.request(method, path, content=body, headers=headers)
        allowed = {400, 422} if method == "POST" and status in (400, 422) else {status}
        assert answer.status_code in allowed, (method, path, str(body)[:60], answer.text)
        assert len(answer.content) < 1000
        assert answer.json()["detail"]
    good = post(client, {"users": ["u/3"], "k": 4}).json()[0]["items"]
    assert [one["item"] for one in good] == expected(catalogue, 3, 4)


def test_a_body_in_pieces_is_measured(client: Any) -> None:
    answer = client.post("/recommendations", content=(b"x" * 100 for _ in range(100)))
    assert answer.status_code == 413


def test_nodes_are_named_by_their_numbers_without_ids(shop: HeteroData) -> None:
    catalogue = Catalogue(Retriever(BPRMF.from_data(shop), shop))
    assert [catalogue.node("user", name) for name in ("3", 3, "39")] == [3, 3, 39]
    assert [catalogue.node("user", name) for name in ("40", -1, "-1", "٣", "x", 10**30, "")] == [None] * 7
    assert catalogue.names("item", torch.tensor([4, 2])) == [4, 2]


def test_ids_that_javascript_would_round_are_strings(shop: HeteroData) -> None:
    ids = Ids(list(range(40)), [2**60 + n for n in range(30)])
    catalogue = Catalogue(Retriever(BPRMF.from_data(shop), shop, ids))
    name = catalogue.names("item", torch.tensor([4]))[0]
    assert name == str(2**60 + 4)
    assert catalogue.node("item", name) == 4


def test_pictures_of_another_form_are_refused(shop: HeteroData) -> None:
    shop["item"].image = shop["item"].image.float()
    with pytest.raises(ValueError, match=r"data\['item'\].image must be uint8 of shape \[30, 1 or 3, height, width\]"):
        Catalogue(Retriever(BPRMF.from_data(shop), shop))


def test_limits_are_checked(catalogue: Catalogue) -> None:
    with pytest.raises(ValueError, match="'max_k' must be positive"):
        create_app(catalogue, max_k=0)
    with pytest.raises(ValueError, match="'body_seconds' must be positive"):
        create_app(catalogue, body_seconds=0)


# requests that wait together


class Recorder:
    """Ranks, holding each batch until it is let go, and writes down the batches."""

    def __init__(self, retriever: Retriever) -> None:
        self.retriever, self.batches, self.go = retriever, [], threading.Event()

    def __call__(self, user: torch.Tensor, k: int, exclude_seen: bool) -> Any:
        self.go.wait(10)
        self.batches.append((user.tolist(), k, exclude_seen))
        if 13 in user:
            raise ValueError("the scores of user 13 are NaN")
        return self.retriever(user, k, exclude_seen)


def together(catalogue: Catalogue, requests: list[Request], **limits: int) -> tuple[list[Any], Recorder]:
    """Answers or errors of requests that come while the first is ranked, and the batches."""
    recorder = Recorder(catalogue.retriever)

    async def run() -> list[Any]:
        batcher = Batcher(recorder, **{"max_batch": 64, "max_waiting": 100} | limits)  # type: ignore[arg-type]
        batcher.start()
        tasks = [asyncio.create_task(batcher.rank([one])) for one in requests]
        await asyncio.sleep(0.05)
        recorder.go.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        await batcher.stop()
        assert not batcher.is_ready
        return list(answers)

    return asyncio.run(run()), recorder


def test_requests_that_wait_are_ranked_together(catalogue: Catalogue) -> None:
    requests = [Request(user, 1 + user % 4, user % 3 > 0) for user in range(12)]
    answers, recorder = together(catalogue, requests)
    assert len(recorder.batches) <= 4
    for one, (answer,) in zip(requests, answers, strict=True):
        assert [100 + node for node in answer[0]] == expected(catalogue, one.user, one.k, one.exclude_seen)
        assert len(answer[1]) == len(answer[0])


def test_a_batch_has_a_limit(catalogue: Catalogue) -> None:
    _, recorder = together(catalogue, [Request(user, 3, True) for user in range(12)], max_batch=5)
    assert max(len(users) for users, _, _ in recorder.batches) == 5


def test_too_many_that_wait_are_refused(catalogue: Catalogue) -> None:
    answers, _ = together(catalogue, [Request(user, 3, True) for user in range(12)], max_waiting=4)
    assert sum(isinstance(answer, Overloaded) for answer in answers) >= 7
    assert sum(isinstance(answer, list) for answer in answers) >= 4


def test_an_error_of_a_batch_stays_in_it(catalogue: Catalogue) -> None:
    answers, _ = together(catalogue, [Request(user, 3, True) for user in (1, 13, 2)], max_batch=1)
    assert isinstance(answers[1], ValueError)
    assert isinstance(answers[0], list)
    assert isinstance(answers[2], list)


def test_an_overloaded_service_says_so(catalogue: Catalogue) -> None:
    with TestClient(create_app(catalogue, max_waiting=1)) as client:
        answer = post(client, {"users": ["u/1", "u/2"]})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert post(client, {"users": ["u/1"]}).status_code == 200


def test_an_application_that_has_not_started_is_not_ready(catalogue: Catalogue) -> None:
    client = TestClient(create_app(catalogue))
    assert client.get("/ready").status_code == 503
    assert client.get("/health").status_code == 200


def test_texts_stand_before_words(shop: HeteroData, catalogue: Catalogue) -> None:
    assert catalogue.text(3) == "red cup"
    shop["item"].text = [f"Item {n}, a  cup" for n in range(30)]
    assert Catalogue(Retriever(BPRMF.from_data(shop), shop), ModelCard()).text(3) == "Item 3, a cup"

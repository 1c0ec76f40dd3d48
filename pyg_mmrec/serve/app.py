"""The service's addresses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any, cast

import torch

from pyg_mmrec import __version__
from pyg_mmrec.serve.batching import Batcher, Overloaded, Request
from pyg_mmrec.serve.catalogue import Catalogue
from pyg_mmrec.serve.explain import explain
from pyg_mmrec.typing import ITEM, USER, NodeType
from pyg_mmrec.utils.checks import check_int, check_positive

try:
    from fastapi import FastAPI, HTTPException, Query
    from fastapi import Request as HTTPRequest
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, Response

    from pyg_mmrec.serve.limits import BodyLimit
    from pyg_mmrec.serve.schemas import (
        Explained,
        Facts,
        History,
        Item,
        Part,
        Recommendations,
        Scored,
        Share,
        Status,
        Users,
        Wanted,
    )
except ImportError as error:
    raise ImportError("the service needs FastAPI; install it with: pip install 'pyg-mmrec[serve]'") from error

#: What browsers may load for the page: nothing from elsewhere.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}

#: An id in a query.
IdText = Annotated[str, Query(min_length=1, max_length=256)]


def create_app(
    catalogue: Catalogue,
    *,
    max_k: int = 100,
    max_users: int = 100,
    max_body: int = 65_536,
    max_batch: int = 64,
    max_waiting: int = 1000,
    body_seconds: float = 10.0,
) -> FastAPI:
    """The service of a catalogue as an ASGI application, for uvicorn or another server.

    Requests that wait at the same time are ranked together. What is malformed, too large or unknown is answered with a
    status of 400 to 499; where too many requests wait, with 503.

    Args:
        catalogue: Users, items and the model.
        max_k: Most items for a user (default: 100, at most the number of items).
        max_users: Most users of one request (default: 100).
        max_body: Largest body in bytes (default: 65,536).
        max_batch: Users ranked at a time (default: 64).
        max_waiting: Users that may wait (default: 1000).
        body_seconds: Longest time that a body may take to arrive (default: 10).

    Raises:
        ImportError: On import, if FastAPI is not installed.
        ValueError: If an argument is out of range.

    Example:
        >>> from torch_geometric.data import HeteroData
        >>> from pyg_mmrec.models import Popularity
        >>> from pyg_mmrec.retrieval import Retriever
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 1, 2
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0], [1]])
        >>> app = create_app(Catalogue(Retriever(Popularity.from_data(data), data)))
        >>> '/recommendations' in app.openapi()['paths']
        True
    """
    check_int(1, max_k=max_k, max_users=max_users, max_body=max_body, max_batch=max_batch, max_waiting=max_waiting)
    check_positive(body_seconds=body_seconds)
    catalogue.retriever.model.train(False)  # for good: ranking and explaining run in two threads
    batcher = Batcher(catalogue.retriever, max_batch, max_waiting)
    service = _Service(catalogue, batcher, min(max_k, catalogue.retriever.num_items), max_users)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        await batcher.stop()
        service.side.shutdown()

    name = type(catalogue.retriever.model).__name__
    app = FastAPI(
        title=f"pyg_mmrec: {name}", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan
    )  # the pages that FastAPI brings load from elsewhere
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(Overloaded, _overloaded)
    app.add_middleware(BodyLimit, max_bytes=max_body, seconds=body_seconds)
    _add_state(app, service)
    _add_users(app, service)
    _add_recommendations(app, service)
    return app


class _Service:
    """What the addresses share."""

    def __init__(self, catalogue: Catalogue, batcher: Batcher, max_k: int, max_users: int) -> None:
        self.catalogue, self.batcher, self.max_k, self.max_users = catalogue, batcher, max_k, max_users
        self.side = ThreadPoolExecutor(1, thread_name_prefix="side")  # pictures and explanations delay no ranking

    def node(self, node_type: NodeType, name: str | int) -> int:
        """The node of an id; an unknown one is answered with 404."""
        node = self.catalogue.node(node_type, name)
        if node is None:
            raise HTTPException(404, f"there is no {node_type} {name!a}")
        return node

    def items(self, nodes: Sequence[int]) -> list[dict[str, Any]]:
        """Items as they are answered."""
        names = self.catalogue.names(ITEM, torch.tensor(nodes, dtype=torch.long))
        return [
            {"item": name, "text": self.catalogue.text(node), "has_image": self.catalogue.has_picture(node)}
            for node, name in zip(nodes, names, strict=True)
        ]

    async def recommend(self, names: Sequence[str | int], k: int, exclude_seen: bool) -> list[Recommendations]:
        """Recommendations for users."""
        nodes = [self.node(USER, name) for name in names]
        ranked = await self.batcher.rank([Request(node, k, exclude_seen) for node in nodes])
        users = self.catalogue.names(USER, torch.tensor(nodes))
        return [
            Recommendations(
                user=user,
                items=[Scored(**item, score=score) for item, score in zip(self.items(items), scores, strict=True)],
            )
            for user, (items, scores) in zip(users, ranked, strict=True)
        ]

    async def aside(self, call: Any, *args: Any) -> Any:
        """The result of a call in the side thread."""
        return await asyncio.get_running_loop().run_in_executor(self.side, call, *args)


def _add_state(app: FastAPI, service: _Service) -> None:
    """The page, and addresses that say how the service is."""
    page = files("pyg_mmrec.serve").joinpath("page.html").read_text(encoding="utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers={**_SAFE, "Content-Security-Policy": _POLICY})

    @app.get("/health", summary="Whether the process lives")
    async def health() -> Status:
        return Status(status="ok")

    @app.get("/ready", summary="Whether requests are taken", responses={503: {"model": Status}})
    async def ready(response: Response) -> Status:
        if not service.batcher.is_ready:
            response.status_code = 503
            return Status(status="not ready")
        return Status(status="ready")

    @app.get("/model", summary="The model, its data and its card")
    async def model() -> Facts:
        return Facts(**service.catalogue.facts(), max_k=service.max_k)


def _add_users(app: FastAPI, service: _Service) -> None:
    """Addresses about users and items."""
    catalogue = service.catalogue

    @app.get("/users", summary="Ids of users, in sections")
    async def users(offset: int = Query(0, ge=0, le=2**62), limit: int = Query(20, ge=1, le=1000)) -> Users:
        total = catalogue.sizes[USER]
        nodes = torch.arange(min(offset, total), min(offset + limit, total))
        return Users(total=total, users=catalogue.names(USER, nodes))

    @app.get("/history", summary="What a user has interacted with")
    async def history(user: IdText, limit: int = Query(50, ge=1, le=1000)) -> History:
        node = service.node(USER, user)
        nodes = catalogue.history(node)
        name = catalogue.names(USER, torch.tensor([node]))[0]
        return History(
            user=name, total=nodes.numel(), items=[Item(**one) for one in service.items(nodes[:limit].tolist())]
        )

    @app.get(
        "/image", summary="An item's picture", response_class=Response, responses={200: {"content": {"image/png": {}}}}
    )
    async def image(item: IdText) -> Response:
        content = await service.aside(catalogue.picture, service.node(ITEM, item))
        if content is None:
            raise HTTPException(404, f"item {item!a} has no picture")
        return Response(content, media_type="image/png", headers={**_SAFE, "Cache-Control": "max-age=86400"})


def _add_recommendations(app: FastAPI, service: _Service) -> None:
    """Addresses that rank and explain."""

    @app.get("/recommendations", summary="Items for one user")
    async def recommend_to_one(
        user: IdText, k: int = Query(10, ge=1, le=service.max_k), exclude_seen: bool = True
    ) -> Recommendations:
        return (await service.recommend([user], k, exclude_seen))[0]

    @app.post("/recommendations", summary="Items for several users")
    async def recommend_to_several(wanted: Wanted) -> list[Recommendations]:
        if wanted.k > service.max_k:
            raise HTTPException(422, f"'k' must be at most {service.max_k} (got {_short(wanted.k)})")
        if len(wanted.users) > service.max_users:
            raise HTTPException(422, f"'users' must name at most {service.max_users} (got {len(wanted.users)})")
        return await service.recommend(wanted.users, wanted.k, wanted.exclude_seen)

    @app.get("/explanation", summary="Why an item is recommended to a user")
    async def explanation(user: IdText, item: IdText) -> Explained:
        one, other = service.node(USER, user), service.node(ITEM, item)
        told = await service.aside(explain, service.catalogue.retriever, service.catalogue.history(one), one, other)
        shown = service.items([node for node, _ in told["items"]])
        shares = zip(shown, told["items"], strict=True)
        return Explained(
            kind=told["kind"],
            parts=[Part(name=name, value=value) for name, value in told["parts"]],
            items=[Share(**item, share=share) for item, (_, share) in shares],
        )


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


async def _malformed(request: HTTPRequest, error: Exception) -> Response:
    """Says where and why, without what was sent, which JSON may not be able to hold."""
    reasons = cast("RequestValidationError", error).errors()
    content = [{"loc": [ascii(at).strip("'") for at in one["loc"]], "msg": one["msg"]} for one in reasons]
    return Response(json.dumps({"detail": content}), 422, media_type="application/json")


async def _overloaded(request: HTTPRequest, error: Exception) -> Response:
    content = json.dumps({"detail": "too many requests wait"})
    return Response(content, 503, media_type="application/json", headers={"Retry-After": "1"})

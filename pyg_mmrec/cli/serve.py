"""``pyg-mmrec serve``."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from pyg_mmrec.cli.parser import Parser, fail
from pyg_mmrec.cli.runs import load_run
from pyg_mmrec.models import ModelCard
from pyg_mmrec.retrieval import Retriever
from pyg_mmrec.utils.checks import check_int

#: Seconds that requests under way have to end once the service is told to.
GRACE = 10


def serve_parser() -> Parser:
    """The arguments."""
    parser = Parser(
        usage="pyg-mmrec serve RUN_DIR [options]",
        description="Serve recommendations of the model of a run over HTTP, with a page to look at them.",
    )
    parser.add_argument("run_dir", type=str, help="Folder that 'train' wrote.")
    parser.add_argument("--host", type=str, default="127.0.0.1", help="Address to listen on.")
    parser.add_argument("--port", type=int, default=8000, help="Port to listen on; 0 for any free one.")
    parser.add_argument("--max_k", type=int, default=100, help="Most items for a user.")
    parser.add_argument("--max_users", type=int, default=100, help="Most users of one request.")
    parser.add_argument("--max_body", type=int, default=65_536, help="Largest body of a request in bytes.")
    parser.add_argument("--max_waiting", type=int, default=1000, help="Users that may wait to be ranked for.")
    return parser.finish()


def serve(parser: Parser, parsed: Namespace) -> None:
    """Takes the port, loads the run and serves."""
    run_dir = Path(parsed.run_dir)
    limits = {name: parsed[name] for name in ("max_k", "max_users", "max_body", "max_waiting")}
    check_int(1, **limits)
    with _listener(parsed.host, parsed.port) as listener:
        (view, _, _), model, ids = load_run(run_dir)
        _serve(Retriever(model, view, ids), run_dir / "model", listener, **limits)


def _listener(host: str, port: int) -> socket.socket:
    """The socket to listen on, before any work is done.

    Raises:
        ImportError: If the packages of the service are not installed.
    """
    try:
        import uvicorn  # noqa: F401

        import pyg_mmrec.serve  # noqa: F401
    except ImportError as error:
        raise ImportError("'serve' needs FastAPI and uvicorn: pip install 'pyg-mmrec[serve]'") from error
    if not 0 <= port <= 65_535:
        fail(f"--port must lie in 0..65535 (got {port})")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        fail(f"cannot listen on {host}, port {port} ({error.strerror}): choose another --host or --port")


def _serve(retriever: Retriever, model_folder: Path, listener: socket.socket, **limits: Any) -> None:
    """Serves until SIGINT or SIGTERM, which let the requests under way end."""
    import uvicorn

    from pyg_mmrec.serve import Catalogue, create_app

    try:
        card = ModelCard.load(model_folder)
    except FileNotFoundError:
        card = None
    app = create_app(Catalogue(retriever, card), **limits)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE)
    server = uvicorn.Server(config)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"serving on http://{shown}:{port} (Ctrl-C ends)", flush=True)
    with _stopped_by_signals(server):
        asyncio.run(server.serve([listener]))


@contextlib.contextmanager
def _stopped_by_signals(server: Any) -> Iterator[None]:
    """A signal ends the service, not the process in the middle of it."""

    def stop(*_: Any) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

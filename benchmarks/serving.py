"""Latency of the service on loopback at a fixed rate of requests, with a catalogue of 100,000 items.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/serving.py                                 # 200 requests/s for a minute
    OMP_WAIT_POLICY=PASSIVE python benchmarks/serving.py --seconds 5 --items 5000        # a small form

The service and the load are a process each; the load is this one and needs the standard library only. Requests are for
random users, ten items each, and start at fixed times whether or not earlier ones are answered; a latency counts from
the time at which its request was due. Vectors are random, 64 wide, and every user has had 20 items. Writes
``results/serving.csv``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
from steps import write_table

RESULTS = Path(__file__).parent / "results"
HOST = "127.0.0.1"


def serve(num_users: int, num_items: int, port: int) -> None:
    """Serves random vectors, until it is stopped."""
    import uvicorn
    from retrieval import random_shop

    from pyg_mmrec.retrieval import Retriever
    from pyg_mmrec.serve import Catalogue, create_app

    model, data = random_shop(num_users, num_items)
    uvicorn.run(create_app(Catalogue(Retriever(model, data))), host=HOST, port=port, log_level="warning")


class Connections:
    """Open connections that wait for their next request."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.made = 0

    async def status(self, path: str) -> int:
        """The status of the answer to a GET, whose body is read; an idle connection may have been closed meanwhile."""
        if self.free:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                return await self._ask(*self.free.pop(), path)
        self.made += 1
        return await self._ask(*await asyncio.open_connection(HOST, self.port), path)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> int:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next(line.split(":")[1] for line in head.splitlines() if line.startswith("content-length:"))
        await reader.readexactly(int(length))
        self.free.append((reader, writer))
        return int(head.split()[1])


async def load(port: int, rate: float, seconds: float, num_users: int) -> tuple[list[float], int, int]:
    """Latencies in milliseconds, the number of failures, and of connections."""
    draw, connections = random.Random(0), Connections(port)
    latencies: list[float] = []
    failed = 0

    async def one(due: float) -> None:
        nonlocal failed
        try:
            status = await connections.status(f"/recommendations?user={draw.randrange(num_users)}&k=10")
        except (OSError, asyncio.IncompleteReadError):
            status = 0
        failed += status != 200
        latencies.append(1000 * (time.perf_counter() - due))

    start, tasks = time.perf_counter() + 0.1, []
    for number in range(int(rate * seconds)):
        due = start + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    return latencies, failed, connections.made


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


async def wait_until_ready(port: int, server: subprocess.Popen[bytes]) -> None:
    """Returns once the service takes requests."""
    for _ in range(600):
        if server.poll() is not None:
            raise RuntimeError("the service ended before it was ready")
        try:
            if await Connections(port).status("/ready") == 200:
                return
        except OSError:
            await asyncio.sleep(0.2)
    raise RuntimeError("the service was not ready within two minutes")


async def measure(args: argparse.Namespace, port: int, server: subprocess.Popen[bytes]) -> list[dict[str, float]]:
    """One row for each rate."""
    await wait_until_ready(port, server)
    await load(port, min(args.rates), 2, args.users)  # warm-up
    rows = []
    for rate in args.rates:
        start = time.perf_counter()
        latencies, failed, connections = await load(port, rate, args.seconds, args.users)
        took, latencies = time.perf_counter() - start, sorted(latencies)
        places = {name: latencies[int(share * (len(latencies) - 1))] for name, share in SHARES.items()}
        done = {"rate": rate, "answered_per_second": len(latencies) / took, "failed": failed}
        rows.append({"items": args.items, **done, **places, "connections": connections})
        print(rows[-1], flush=True)
    return rows


SHARES = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "max_ms": 1.0}


def main() -> None:
    """Starts the service, loads it at each rate, writes and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rates", type=float, nargs="+", default=[50, 100, 200], help="requests a second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--serve", type=int, metavar="PORT", help="be the service")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.serve:
        serve(args.users, args.items, args.serve)
        return
    port = free_port()
    sizes = ["--users", str(args.users), "--items", str(args.items), "--serve", str(port)]
    server = subprocess.Popen([sys.executable, __file__, *sizes])
    try:
        rows = asyncio.run(measure(args, port, server))
    finally:
        server.terminate()
        server.wait()
    write_table(pd.DataFrame(rows), args.results / "serving.csv")


if __name__ == "__main__":
    main()

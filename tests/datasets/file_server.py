"""A server on loopback for the tests of downloads."""

from __future__ import annotations

import http.server
import re


class Server(http.server.ThreadingHTTPServer):
    """A server of files on loopback that can break off, refuse ranges, or be busy."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.ranges = True  # whether parts are served
        self.limit: list[int] = []  # bytes after which the next answers break off
        self.codes: list[int] = []  # what the next requests get instead of an answer
        self.headers = {"ETag": '"one"'}
        self.length = True  # whether the answer says how long it is
        self.asked: list[str | None] = []  # the ranges that were asked for

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        if server.codes:
            return self.send_error(server.codes.pop(0))
        content = server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        start = 0
        same = self.headers.get("If-Range") in (None, *server.headers.values())
        if wanted and server.ranges and same:
            match = re.fullmatch(r"bytes=(\d+)-", wanted)
            assert match
            start = int(match[1])
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if server.length:
            self.send_header("Content-Length", str(len(content) - start))
        for name, value in server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        end = start + server.limit.pop(0) if server.limit else len(content)
        self.wfile.write(content[start:end])

    def log_message(self, *args: object) -> None:
        pass

"""A small web server for tests: ranges, and every way in which a server can fail."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What a test server has, and what it was asked.

    Attributes:
        files: content by path, which begins with a slash.
        faults: by path: a status, `drip`, `short`, `whole` (no ranges), `packed` (gzip), `hang`, or where to redirect to.
        passing: failures left by path, after which it answers.
        asked: path and range of every request.
    """

    base: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, int | str] = field(default_factory=dict)
    passing: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    posted: list[bytes] = field(default_factory=list)
    answers: dict[str, bytes] = field(default_factory=dict)

    @property
    def sent(self) -> int:
        """Requests that were made."""
        return len(self.asked)


@contextmanager
def serving() -> Iterator[Site]:
    """A server on a port of this machine for as long as the block runs."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            site.asked.append((self.path, self.headers.get("Range")))
            site.headers.append(dict(self.headers.items()))
            fault = site.faults.get(path)
            if site.passing.get(path, 0) > 0:
                site.passing[path] -= 1
                return self._say(503, b"later")
            if isinstance(fault, int):
                return self._say(fault, b"no")
            if fault is not None and "://" in fault:
                return self._say(302, b"", {"Location": fault})
            data = site.files.get(path)
            if data is None:
                return self._say(404, b"nothing here")
            wanted = self.headers.get("Range")
            etag = {"ETag": f'"{hash(data) & 0xFFFFFF:x}"', "Last-Modified": "Mon, 30 Nov 2026 10:00:00 GMT"}
            if fault == "packed":
                etag["Content-Encoding"] = "gzip"
            if wanted is None or fault == "whole":
                return self._say(200, data, etag)
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1 if last else len(data), len(data))
            if start >= len(data):
                return self._say(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return self._say(
                206,
                data[start:stop],
                etag | {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"},
                fault,
            )

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            site.asked.append((self.path, None))
            site.posted.append(self.rfile.read(int(self.headers["Content-Length"])))
            answer = site.answers.get(self.path)
            return self._say(404, b"") if answer is None else self._say(200, answer)

        def _say(
            self,
            status: int,
            body: bytes,
            headers: dict[str, str] | None = None,
            fault: str | int | None = None,
        ) -> None:
            if fault == "hang":
                time.sleep(2)
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            try:
                if fault == "drip":
                    for index in range(len(body)):
                        self.wfile.write(body[index : index + 1])
                        self.wfile.flush()
                        time.sleep(0.02)
                elif fault == "short":
                    self.wfile.write(body[: len(body) // 2])
                    self.close_connection = True
                else:
                    self.wfile.write(body)
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Clients may go when they have enough."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.base = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()

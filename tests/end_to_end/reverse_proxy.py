"""A reverse proxy as sites deploy it: another host, a path prefix, and the headers that forward them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import httpx

from tests.waiting import DEADLINE_SECONDS

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "host", "content-length", "content-encoding"}


@contextmanager
def proxying(upstream: str, below: str, *, strip: bool) -> Iterator[str]:
    """Serve `upstream` below a path; yields the page's address there.

    `strip`: remove the path from the forwarded request; otherwise leave it. The browser's `Sec-Fetch-…`
    are not forwarded: over plain http, from another host, it would send none.
    """

    client = httpx.Client(timeout=DEADLINE_SECONDS, trust_env=False)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            sent = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in _HOP_BY_HOP and not name.lower().startswith(("sec-fetch", "x-forw"))
            }
            sent |= {
                "Host": urlsplit(upstream).netloc,
                "X-Forwarded-For": self.client_address[0],
                "X-Forwarded-Host": self.headers["Host"],
                "X-Forwarded-Proto": "http",
                "X-Forwarded-Prefix": below,
            }
            path = self.path
            if strip:
                if not path.startswith(f"{below}/"):
                    self.send_error(404)
                    return
                path = path.removeprefix(below)
            url = f"{upstream.rstrip('/')}{path}"
            answer = client.request(self.command, url, headers=sent, content=self.rfile.read(length))
            self.send_response(answer.status_code)
            for name, value in answer.headers.multi_items():
                if name not in _HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.content)

        do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}{below}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        client.close()

"""The worker's web server: metrics for Prometheus, `/healthz` and `/readyz`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app

# What is wrong, "" if nothing.
Probe = Callable[[], str]
HEALTH_PATH, READY_PATH = "/healthz", "/readyz"
TEXT_HEADERS = [("Content-Type", "text/plain; charset=utf-8")]


class _Server(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread, so that a slow client delays nobody."""

    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Logs nothing: a scrape comes every few seconds."""


def serve(
    registry: CollectorRegistry, probes: Mapping[str, Probe], host: str, port: int
) -> int:
    """Serves in a thread; `probes` by path. Returns the port, also if 0 was asked. Raises OSError that names it."""
    metrics = make_wsgi_app(registry)

    def application(
        environment: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        probe = probes.get(environment["PATH_INFO"])
        if probe is None:
            return metrics(environment, start_response)
        fault = probe()
        status = "503 Service Unavailable" if fault else "200 OK"
        start_response(status, list(TEXT_HEADERS))  # the server adds to them
        return [f"{fault or 'ok'}\n".encode()]

    try:
        server = make_server(host, port, application, _Server, _QuietHandler)
    except OSError as error:
        raise OSError(
            f"metrics cannot be served on {host}:{port}: {error.strerror}; "
            "each process needs a port of its own: set `metrics_port`, 0 for a free one; of a sink `--metrics-port`"
        ) from None
    Thread(target=server.serve_forever, name="status", daemon=True).start()
    return int(server.server_address[1])

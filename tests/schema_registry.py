"""A schema registry of Confluent's protocol in a thread, with the few paths that a reader of records asks for."""

from __future__ import annotations

import base64
import json
import re
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from google.protobuf.descriptor_pb2 import FileDescriptorProto


class SchemaServer:
    """Serves registered schemas within a `with` block."""

    def __init__(self) -> None:
        self.asked: list[str] = []  # paths, in order
        self.authorizations: set[str | None] = set()
        self.broken = False  # True: every answer is an error
        self._answers: dict[str, dict[str, Any]] = {}
        handler = type("Handler", (_SchemaHandler,), {"registry": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def register(
        self, number: int, schema: Any, subject: str = "s", references: Any = ()
    ) -> None:
        """Registers an Avro schema, or a Protobuf file, as version 1 of a subject."""
        if isinstance(schema, FileDescriptorProto):
            text = base64.b64encode(schema.SerializeToString()).decode()
            answer: dict[str, Any] = {"schema": text, "schemaType": "PROTOBUF"}
        else:
            answer = {"schema": json.dumps(schema)}
        if references:
            answer["references"] = [
                {"name": name, "subject": other, "version": 1}
                for name, other in references
            ]
        self._answers[f"/schemas/ids/{number}"] = answer
        self._answers[f"/subjects/{subject}/versions/1"] = answer | {"id": number}

    def answer(self, path: str) -> dict[str, Any] | None:
        """The answer for a path, None if there is no such schema."""
        self.asked.append(path)
        return self._answers.get(re.sub(r"\?.*", "", path))


class _SchemaHandler(BaseHTTPRequestHandler):
    registry: SchemaServer

    def do_GET(self) -> None:
        self.registry.authorizations.add(self.headers["Authorization"])
        answer = self.registry.answer(self.path)
        code = 500 if self.registry.broken else 404 if answer is None else 200
        content = json.dumps(answer or {"error_code": 40403}).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def framed(number: int, record: bytes, indexes: bytes = b"") -> bytes:
    """A record with the number of its schema before it, and of Protobuf the indexes of its message."""
    return struct.pack(">bI", 0, number) + indexes + record

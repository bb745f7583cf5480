"""The simulator's answers without a socket, their JSON to be looked into as it comes."""

from typing import Any, Protocol

from werkzeug.datastructures import Headers


class Answer(Protocol):
    """What Flask's test client returns, but for whether the body is JSON: a test knows."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Headers: ...
    @property
    def mimetype(self) -> str | None: ...
    @property
    def data(self) -> bytes: ...
    @property
    def text(self) -> str: ...
    @property
    def json(self) -> Any: ...


class Http(Protocol):
    """A test client that gives such answers."""

    def get(self, path: str, **options: Any) -> Answer: ...
    def post(self, path: str, **options: Any) -> Answer: ...
    def put(self, path: str, **options: Any) -> Answer: ...

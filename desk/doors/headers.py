"""The headers of every answer: what a browser may load, and what it may not guess."""

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from flask import Flask, Response

from worker.settings import Settings, is_loopback

_HOST: Final = re.compile(r"[a-z0-9.-]+")


def install(app: Flask, settings: Settings) -> None:
    """Send the headers with each answer of the application."""
    fixed = {
        "Content-Security-Policy": content_security_policy(settings),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }

    def add(response: Response) -> Response:
        response.headers.update(fixed)
        # Static files set their own. Nothing else may stay in a cache: it shows what jobs hold.
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    app.after_request(add)


def content_security_policy(settings: Settings) -> str:
    """Write the policy: our own files, and from the hosts of the archive images and sound."""
    media = " ".join(["'self'", *_media(settings)])
    rules = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": f"{media} data:",
        "media-src": media,
        "connect-src": "'self'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }
    return "; ".join(f"{name} {sources}" for name, sources in rules.items())


def _media(settings: Settings) -> Iterator[str]:
    for host in filter(_HOST.fullmatch, settings.archive.hosts):
        yield f"https://{host}"
        yield f"https://*.{host}"
    if is_loopback(settings.provider_url):
        # The simulator: its files are at its own address, without TLS.
        parts = urlsplit(settings.provider_url)
        yield f"{parts.scheme}://{parts.netloc}"

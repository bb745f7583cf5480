"""A person with a browser before the desk, for tests and pictures."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests import servers
from tests.integration.desk import SECRETS
from tests.system import Desk, busyness

_ARGUMENTS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip
_ANSWERS: Final = re.compile("status of (404|422)")
WIDE: Final = {"width": 1280, "height": 800}
NARROW: Final = {"width": 360, "height": 740}


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Open Debian's chromium; skip the test if there is none."""
    program = servers.program("chromium", "chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=[*_ARGUMENTS])
        yield opened
        opened.close()


class Reader:
    """A person with a browser, who has logged in; keeps what the browser complains of."""

    def __init__(self, browser: Browser, desk: Desk, **options: Any) -> None:
        self._context = browser.new_context(
            base_url=desk.url, timezone_id="Europe/Berlin", locale="en-GB",
            **{"viewport": WIDE, **options},
        )  # fmt: skip
        self._context.set_default_timeout(10_000 * busyness())
        expect.set_options(timeout=10_000 * busyness())
        self.page: Page = self._context.new_page()
        self.complaints: list[str] = []
        self.elsewhere: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._see(request.url, desk.url))
        self.page.goto("/login")
        self.page.fill("#token", SECRETS["operator"])
        self.page.click("main button")
        expect(self.page.get_by_role("navigation")).to_be_visible()

    def _hear(self, message: Any) -> None:
        # A page that answers 404, and a form with what is wrong in it, are among the screens.
        if message.type in {"error", "warning"} and not _ANSWERS.search(message.text):
            self.complaints.append(message.text)

    def _see(self, url: str, own: str) -> None:
        if not url.startswith((own, "data:", "blob:")):
            self.elsewhere.append(url)

    def close(self) -> None:
        self._context.close()


def keep_picture(page: Page, name: str) -> None:
    if folder := os.environ.get("DESK_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

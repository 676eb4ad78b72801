"""Debian's Chromium under Playwright, for tests that click, press keys and look.

with chromium() as browser:
    page = browser.new_page()
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from playwright.sync_api import Browser, sync_playwright

from tests.doubles.debian import browser as program_of_debian


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window. Playwright's own download of one is not needed."""
    program, env = program_of_debian()
    flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, env={**os.environ, **env}, args=flags)
        try:
            yield running
        finally:
            running.close()

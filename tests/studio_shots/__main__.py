"""``python -m tests.studio_shots [--server URL] [--only NAME …]``: pictures of each screen of the studio, for people to look at.

A real stack edits the example photographs. Each screen is then shown at four widths, light and dark, and written to
``out/studio/NAME-WIDTH-SCHEME.png``. The time until a session's first picture is seen is printed too.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx
from playwright.sync_api import Browser, Page, expect

from editthinker.local import Stack
from editthinker.local.supervisor import Timing
from tests.doubles.chromium import chromium

ROOT: Final = Path(__file__).parents[2]
PHOTOS: Final = ROOT / "examples/photos"
OUT: Final = ROOT / "out/studio"
SIZES: Final = ((360, 780), (768, 1024), (1280, 800), (2560, 1440))
EDITS: Final[tuple[tuple[str, str, dict[str, str]], ...]] = (
    ("astronaut.jpg", "make it a sepia photograph", {}),
    # A pair for the blind comparison, which shows two sessions that differ in their strategy.
    ("astronaut.jpg", "make it a sepia photograph", {"strategy": "single"}),
    ("chelsea.jpg", "make it much brighter and warmer", {"max_turns": "3"}),
    ("coffee.jpg", "make it black and white", {}),
    ("astronaut.jpg", "make it look like a faded 1970s print", {"candidates": "2"}),
    ("chelsea.jpg", "add a red balloon", {}),
    ("coffee.jpg", "cooler, and more contrast", {"review": "each_turn"}),
    ("coffee.jpg", "make it feel like golden hour", {"seed": "1"}),
)
"""The last session is the one that is shown, the one before it waits for a person."""
VISITS: Final = 7
_IMAGES: Final = """
  const images = (root) => [...root.querySelectorAll("*")].flatMap((each) =>
    [...(each.matches("img") ? [each] : []), ...(each.shadowRoot ? images(each.shadowRoot) : [])]);
"""
_FIRST_PICTURE: Final = f"""() => new Promise((done) => {{{_IMAGES}
  const look = () => images(document).some((each) => each.complete && each.naturalWidth)
    ? requestAnimationFrame(() => done(performance.now())) : setTimeout(look, 4);
  look();
}})"""
_ALL_PICTURES: Final = f"""() => {{{_IMAGES}
  const seen = images(document).filter((each) => each.src && each.getBoundingClientRect().top < innerHeight);
  return seen.every((each) => each.complete);
}}"""


@contextlib.contextmanager
def _server(given: str | None) -> Iterator[str]:
    if given:
        yield given.rstrip("/")
        return
    with TemporaryDirectory() as folder, Stack(Path(folder), timing=Timing(start=600.0)) as stack:
        yield stack.base_url


def _made(url: str) -> list[str]:
    """The sessions, once they ended or wait for a person."""
    names = []
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as api:
        for photo, prompt, options in EDITS:
            files = {"image": (photo, (PHOTOS / photo).read_bytes(), "image/jpeg")}
            wait = {} if "review" in options else {"prefer": "wait=100"}
            reply = api.post("/v1/sessions", files=files, data={"prompt": prompt, **options}, headers=wait)
            reply.raise_for_status()
            names.append(str(reply.json()["id"]))
    return names


def _settled(page: Page) -> None:
    """Every picture is there."""
    page.wait_for_load_state("networkidle")
    page.wait_for_function(_ALL_PICTURES)
    page.evaluate("() => document.fonts.ready")


def _start(page: Page) -> None:
    expect(page.get_by_role("heading", name="What should change?")).to_be_visible()


def _chosen(page: Page) -> None:
    page.get_by_label("Choose pictures").set_input_files(PHOTOS / "astronaut.jpg")
    page.get_by_role("textbox", name="Instruction").fill("give the suit a deep blue colour")
    _painted(page)
    page.get_by_role("button", name="Done").click()
    for summary in page.locator("summary").all():
        summary.click()
    page.get_by_label("Strategy").select_option("think_best_of_n")
    page.get_by_label("Name of a preset").fill("Careful portrait")
    page.get_by_role("button", name="Save", exact=True).click()


def _painted(page: Page) -> None:
    if not page.get_by_role("button", name="Mask").count():
        page.get_by_label("Choose pictures").set_input_files(PHOTOS / "astronaut.jpg")
    page.get_by_role("button", name="Mask").click()
    paper = page.locator(".paper").bounding_box()
    assert paper
    page.get_by_role("slider", name="Size").fill("55")
    page.mouse.move(paper["x"] + paper["width"] * 0.3, paper["y"] + paper["height"] * 0.85)
    page.mouse.down()
    page.mouse.move(paper["x"] + paper["width"] * 0.6, paper["y"] + paper["height"] * 0.8, steps=8)
    page.mouse.up()
    page.get_by_role("slider", name="Soft edge").fill("40")


def _gallery(page: Page) -> None:
    expect(page.get_by_role("listitem").nth(len(EDITS) - 1)).to_be_attached()


def _session(page: Page) -> None:
    expect(page.get_by_text("Done", exact=True)).to_be_visible()


def _side(page: Page) -> None:
    _session(page)
    page.keyboard.press("m")


def _difference(page: Page) -> None:
    _session(page)
    for _ in range(3):
        page.keyboard.press("m")


def _waiting(page: Page) -> None:
    expect(page.get_by_text("Waiting for you")).to_be_visible()
    page.keyboard.press("i")


def _keys(page: Page) -> None:
    _session(page)
    page.keyboard.press("Shift+?")


def _share(page: Page) -> None:
    _session(page)
    page.get_by_role("button", name="Share").click()
    page.get_by_role("button", name="Make link").click()
    expect(page.get_by_role("button", name="Copy")).to_be_visible()


def _guest(page: Page) -> None:
    expect(page.get_by_text("Read only")).to_be_visible()


def _blind(page: Page) -> None:
    expect(page.get_by_role("button", name="Tie")).to_be_visible()


def _operator(page: Page) -> None:
    expect(page.get_by_role("heading", name="Workers")).to_be_visible()


def _screens(url: str, names: list[str]) -> dict[str, tuple[str, Callable[[Page], None]]]:
    made = httpx.post(f"{url}/v1/sessions/{names[-1]}/shares", json={"expires_in_s": 3600}, trust_env=False)
    shown, waiting = f"/studio/sessions/{names[-1]}", f"/studio/sessions/{names[-2]}"
    return {
        "start": ("/studio", _start),
        "start-chosen": ("/studio", _chosen),
        "mask": ("/studio", _painted),
        "gallery": ("/studio/sessions", _gallery),
        "session": (shown, _session),
        "session-side": (shown, _side),
        "session-difference": (shown, _difference),
        "session-waiting": (waiting, _waiting),
        "keys": (shown, _keys),
        "share": (shown, _share),
        "shared": (made.raise_for_status().json()["url"], _guest),
        "blind": ("/studio/blind", _blind),
        "blind-empty": ("/studio/blind?of=editors", lambda page: expect(page.get_by_text("No pairs yet")).to_be_visible()),
        "operator": ("/studio/operator", _operator),
    }


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(prog="python -m tests.studio_shots")
    parser.add_argument("--server", help="base URL of a running stack; without it the embedded stack is started")
    parser.add_argument("--only", nargs="*", help="names of screens")
    parser.add_argument("--widths", nargs="*", type=int, default=[width for width, _ in SIZES])
    parser.add_argument("--schemes", nargs="*", default=["light", "dark"])
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    with _server(options.server) as url:
        screens = _screens(url, _made(url) if not options.server else _known(url))
        with chromium() as browser:
            for name, (path, ready) in screens.items():
                if options.only and name not in options.only:
                    continue
                for width, height in SIZES:
                    for scheme in options.schemes if width in options.widths else ():
                        profile: dict[str, Any] = {"viewport": {"width": width, "height": height}, "color_scheme": scheme}
                        with contextlib.closing(browser.new_context(**profile, has_touch=width < 400)) as context:
                            page = context.new_page()
                            page.set_default_timeout(60_000)
                            page.goto(url + path)
                            ready(page)
                            _settled(page)
                            # With a dialog, the page behind it is of no interest, and the dialog would be resized.
                            whole = not page.locator("dialog[open]").count()
                            page.screenshot(path=OUT / f"{name}-{width}-{scheme}.png", full_page=whole)
                            sys.stdout.write(f"out/studio/{name}-{width}-{scheme}.png\n")
            for visit in ("first", "later"):
                times = _first_pictures(browser, url + screens["session"][0], again=visit == "later")
                shown = f"{min(times):.0f} ms at least, {statistics.median(times):.0f} ms in the middle of {len(times)}"
                sys.stdout.write(f"first picture of a session, {visit} visit: {shown}, after the address was opened\n")


def _first_pictures(browser: Browser, address: str, *, again: bool) -> list[float]:
    """Milliseconds from opening a session's address to its first picture.

    Args:
        again: whether the browser has the studio's files already.
    """
    times = []
    for _ in range(VISITS):
        with contextlib.closing(browser.new_context(viewport={"width": 1280, "height": 800})) as context:
            page = context.new_page()
            for _ in range(1 + again):
                page.goto(address, wait_until="commit")
                time = page.evaluate(_FIRST_PICTURE)
            times.append(time)
    return times


def _known(url: str) -> list[str]:
    """The sessions of a running stack that were made before, or new ones."""
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as api:
        rows = api.get("/v1/sessions", params={"limit": 100}).json()["data"]
    wanted = {prompt: str(row["id"]) for _, prompt, _ in EDITS for row in rows if row["instruction"] == prompt}
    return list(wanted.values()) if len(wanted) == len(EDITS) else _made(url)


if __name__ == "__main__":
    main()

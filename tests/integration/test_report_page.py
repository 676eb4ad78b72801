"""The report in a real browser, from its file: slider, zoom, keyboard, small screens, and a policy that nothing violates."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from editthinker.client import Session
from editthinker.report import Pictures, render
from tests.component.client.scripted import session
from tests.doubles.debian import NoProgramError, browser
from tests.doubles.devtools import Page, open_page

pytestmark = pytest.mark.xdist_group("browser")

SIZE = (600, 400)
RED, GREEN, BLUE = (200, 20, 20), (20, 160, 20), (20, 20, 200)
SCORES = {"semantic": 8.0, "quality": 9.0, "overall": 8.5}
IMAGE = {"sha256": "a", "media_type": "image/webp", "bytes": 1, "width": SIZE[0], "height": SIZE[1]}
HOSTILE = "</figcaption></script><img src=x onerror=alert(1)><script>alert(2)</script>" + "long" * 60
PLACES = [{"left": 600, "top": 100, "right": 900, "bottom": 500, "word": HOSTILE}]
CANDIDATE = {"candidate": 1, "status": "critiqued", "scores": SCORES, "image": IMAGE, "reasoning": HOSTILE, "places": PLACES}
SLIDER = "input[type=range]"
ZOOM = "document.querySelector('output').textContent"
SCROLLED = "[document.querySelector('.stage').scrollLeft, document.querySelector('.stage').scrollTop]"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One browser for all, since it starts for seconds."""
    try:
        browser()
    except NoProgramError as exc:
        pytest.skip(f"there is no browser: {exc}")
    with open_page(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def blank(tab: Page) -> Page:
    """The browser as a test finds it."""
    tab.call("Emulation.setScriptExecutionDisabled", value=False)
    tab.visit("about:blank")
    tab.screen(1280)
    tab.complaints.clear()
    tab.requests.clear()
    return tab


def encoded(colour: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB" if len(colour) == 3 else "RGBA", SIZE, colour).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def report(folder: Path, pictures: Pictures | None = None, **more: Any) -> str:
    """The address of a report: a red source, a green first turn, a blue second one, which won."""
    turns = [{"turn": n, "instruction": HOSTILE, "author": "caller", "candidates": [CANDIDATE]} for n in (1, 2)]
    told = session(**{"instruction": HOSTILE, "turns": turns, "best": {"turn": 2, "candidate": 1}, **more})
    page = render(
        Session.model_validate(told), pictures or Pictures(encoded(RED), {(1, 1): encoded(GREEN), (2, 1): encoded(BLUE)})
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(blank: Page, tmp_path: Path) -> Iterator[Page]:
    """A report, about which the browser has nothing to say."""
    blank.visit(report(tmp_path))
    yield blank
    assert blank.complaints == []
    assert [address for address in blank.requests if not address.startswith("file:")] == []


def colours(page: Page, *shares: float) -> list[str]:
    """What is seen at shares of the width of the comparison, a fifth from its lower edge."""
    page.evaluate("document.querySelector('.frame').scrollIntoView({block: 'start', behavior: 'instant'})")
    page.settle()
    box = page.box(".canvas")
    seen = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    names = {RED: "red", GREEN: "green", BLUE: "blue"}
    found = []
    for share in shares:
        pixel = seen.getpixel((int(box["x"] + share * box["width"]), int(box["y"] + 0.8 * box["height"])))
        assert isinstance(pixel, tuple)
        found.append(names.get((pixel[0], pixel[1], pixel[2]), str(pixel)))
    return found


def test_the_slider_divides_the_source_from_the_result_by_pointer_and_by_keys(page: Page) -> None:
    assert colours(page, 0.2, 0.4, 0.6, 0.8) == ["red", "red", "blue", "blue"]

    box = page.box(".canvas")
    middle = box["y"] + box["height"] * 0.5
    page.drag((box["x"] + box["width"] * 0.5, middle), (box["x"] + box["width"] * 0.3, middle))
    assert page.evaluate(f"document.querySelector('{SLIDER}').value") == "30"
    assert colours(page, 0.2, 0.4, 0.6) == ["red", "blue", "blue"]

    page.evaluate(f"document.querySelector('{SLIDER}').focus()")
    page.key("ArrowRight", times=3)
    assert page.evaluate(f"document.querySelector('{SLIDER}').value") == "33"
    page.key("End")
    assert colours(page, 0.1, 0.9) == ["red", "red"]


def test_zoom_and_pan_keep_both_pictures_in_step(page: Page) -> None:
    shown = "['.before img', '.after img'].map((name) => document.querySelector(name).getBoundingClientRect().toJSON())"
    assert page.evaluate("document.querySelector('[data-zoom=fit]').ariaPressed") == "true"
    page.click("[data-zoom=full]")
    assert page.evaluate(ZOOM) == "100 %"
    first, second = page.evaluate(shown)
    assert (first["width"], first["height"]) == SIZE and first == second

    for _ in range(3):
        page.click("[data-zoom=in]")
    assert page.evaluate(ZOOM) == "338 %"
    before = page.evaluate(SCROLLED)
    box = page.box(".stage")
    start = (box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.5)
    page.drag(start, (start[0] - 60, start[1] - 40))
    assert page.evaluate(SCROLLED) == [before[0] + 60, before[1] + 40]
    first, second = page.evaluate(shown)
    assert first == second

    page.click("[data-zoom=fit]")
    assert page.evaluate(SCROLLED) == [0, 0]


def test_keys_alone_reach_every_control_and_scroll_the_zoomed_picture(page: Page) -> None:
    names = []
    for _ in range(12):
        page.key("Tab")
        names.append(page.evaluate("(document.activeElement.ariaLabel || document.activeElement.textContent).slice(0, 30)"))
        if names[-1] == "Zoom in":
            page.key("Enter", times=2)
    assert [name for name in names if name in {"Fit", "1:1", "Zoom out", "Zoom in"}] == ["Fit", "1:1", "Zoom out", "Zoom in"]
    assert "Where the source ends and the " in names
    assert page.evaluate(ZOOM) != "100 %"

    page.evaluate("document.querySelector('.stage').focus()")
    assert page.evaluate("document.activeElement.className") == "stage"
    before = page.evaluate(SCROLLED)
    page.evaluate("document.querySelector('.stage').style.scrollBehavior = 'auto'")
    page.key("ArrowDown")
    # Not by its event, which may have come before anybody listens.
    page.evaluate(
        f"""new Promise((done) => {{
          const look = () => ({SCROLLED}[1] > {before[1]} ? done(1) : requestAnimationFrame(look));
          look();
        }})"""
    )
    assert page.evaluate(SCROLLED)[1] > before[1]


def test_every_turn_is_compared_with_the_source(page: Page) -> None:
    page.click(".compare")
    assert page.evaluate("document.querySelector('select').selectedOptions[0].textContent") == "Turn 1 \u00b7 8.5"
    assert colours(page, 0.2, 0.8) == ["red", "green"]
    page.evaluate(
        "(document.querySelector('select').value = '0', document.querySelector('select').dispatchEvent(new Event('change')))"
    )
    page.settle()
    assert colours(page, 0.2, 0.8) == ["red", "blue"]


def test_boxes_can_be_hidden(page: Page) -> None:
    shown = "getComputedStyle(document.querySelector('.after .boxes')).display"
    assert page.evaluate(shown) != "none"
    page.click(".marked input")
    assert page.evaluate(shown) == "none"


@pytest.mark.parametrize("width", [360, 768, 1280, 2560])
@pytest.mark.parametrize("dark", [False, True])
def test_no_screen_scrolls_sideways_and_texts_contrast(page: Page, width: int, dark: bool) -> None:  # noqa: FBT001
    """WCAG 2.2, 1.4.3 and 1.4.10."""
    page.screen(width, 740, dark=dark)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    poor = page.evaluate(_CONTRASTS)
    assert poor == []


_CONTRASTS = """
(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("main *:not(svg *, .name, .line)")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) poor.push(`${element.tagName} ${element.className}: ${contrast.toFixed(2)}`);
  }
  return [...new Set(poor)];
})()
"""


def test_without_scripts_and_on_paper_the_pictures_stand_next_to_each_other(blank: Page, tmp_path: Path) -> None:
    places = "['.before img', '.after img'].map((name) => document.querySelector(name).getBoundingClientRect().x)"
    tools = "getComputedStyle(document.querySelector('.tools')).display"
    blank.visit(report(tmp_path))
    assert blank.evaluate(places)[0] == blank.evaluate(places)[1]
    blank.screen(1000, media="print")
    assert blank.evaluate(places)[0] < blank.evaluate(places)[1]
    assert blank.evaluate(tools) == "none"

    # Last: what was forbidden may still be forbidden to the next page, although it is allowed again.
    blank.screen(1000)
    blank.call("Emulation.setScriptExecutionDisabled", value=True)
    blank.visit(report(tmp_path))
    # For the questions; the page's own script did not run.
    blank.call("Emulation.setScriptExecutionDisabled", value=False)
    assert blank.evaluate(places)[0] < blank.evaluate(places)[1]
    assert blank.evaluate(tools) == "none"
    assert blank.complaints == []


def test_transparent_pictures_show_squares_and_not_each_other(blank: Page, tmp_path: Path) -> None:
    blank.visit(report(tmp_path, Pictures(encoded(RED), {(2, 1): encoded((0, 0, 0, 0))})))
    assert colours(blank, 0.2) == ["red"]
    assert not {"red", "blue"} & set(colours(blank, 0.6, 0.7, 0.8, 0.9))
    assert blank.complaints == []


@pytest.mark.parametrize(
    ("more", "live"),
    [
        ({"best": {"turn": 1, "candidate": 1}, "unchanged": True, "finish_reason": "unchanged"}, False),
        ({"best": None, "status": "failed", "turns": []}, False),
        ({"best": None, "status": "failed"}, True),
    ],
)
def test_sessions_without_a_result_have_a_page_too(blank: Page, tmp_path: Path, more: dict[str, Any], live: bool) -> None:  # noqa: FBT001
    """Compared are the pictures that there are."""
    if more.get("unchanged"):
        same = {**CANDIDATE, "unchanged": True}
        more = {**more, "turns": [{"turn": 1, "instruction": "x", "author": "caller", "candidates": [same]}]}
    blank.screen(360)
    blank.visit(report(tmp_path, **more))
    assert blank.evaluate("document.querySelector('.viewer').classList.contains('live')") == live
    assert blank.evaluate("document.documentElement.scrollWidth <= 360")
    if live:
        assert colours(blank, 0.2, 0.8) == ["red", "green"]
    assert blank.complaints == []


def test_the_policy_stops_a_script_and_a_picture_that_are_not_the_reports(blank: Page, tmp_path: Path) -> None:
    """So the policy is in force, and the complaints are heard."""
    path = tmp_path / "report.html"
    report(tmp_path)
    foreign = "<script>document.title = 'run'</script><img src='https://evil.example/x.png'></main>"
    path.write_text(path.read_text().replace("</main>", foreign))
    blank.visit(path.as_uri())
    assert blank.evaluate("document.title") != "run"
    assert len([text for text in blank.complaints if "Content Security Policy" in text]) == 2

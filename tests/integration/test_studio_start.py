"""The studio's start screen in a real browser: masks, presets, the order of pictures, and errors at their fields."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, FilePayload, FloatRect, Page, expect

from tests.doubles.chromium import chromium
from tests.doubles.debian import NoProgramError, browser
from tests.doubles.processes import Process
from tests.doubles.upstreams import Script
from tests.integration.conftest import Start
from tests.integration.test_pictures import editors
from tests.integration.test_sessions import create
from tests.integration.test_studio import context, label, page

__all__ = ["context", "page"]

pytestmark = pytest.mark.xdist_group("browser")
SIZE = (120, 80)


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    try:
        browser()
    except NoProgramError as exc:
        pytest.skip(f"there is no browser: {exc}")
    expect.set_options(timeout=30_000)
    with chromium() as running:
        yield running


@pytest.fixture
def server(start_orchestrator: Start, script: Script, upstreams: str) -> Process:
    """With the editor `one`, which takes one picture and no mask, and `many`, which takes sixteen and a mask; both are known."""
    running = start_orchestrator(EDITTHINKER_EDITORS=editors(upstreams))
    with httpx.Client(base_url=running.url, timeout=30, trust_env=False) as api:
        while any(each["mask"] is None for each in api.get("/v1/models").json()["data"]):
            api.get("/readyz")
    return running


def photo(name: str = "photo.png", colour: str = "#5a783c", size: tuple[int, int] = SIZE) -> FilePayload:
    return payload(Image.new("RGB", size, colour), name)


def payload(image: Image.Image, name: str) -> FilePayload:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": buffer.getvalue()}


def opened(page: Page, server: Process, *pictures: FilePayload, model: str = "many") -> None:
    """The start screen with pictures, and an editor chosen."""
    page.goto(f"{server.url}/studio")
    page.get_by_text("Options").click()
    page.get_by_label("Editor").select_option(model)
    page.get_by_label("Choose pictures").set_input_files([*pictures])


def painting(page: Page) -> FloatRect:
    """Open the mask of the source; where the picture lies on the screen."""
    page.get_by_role("button", name=re.compile("^Mask")).click()
    box = page.locator(".paper").bounding_box()
    assert box
    return box


def drag(page: Page, box: FloatRect, *points: tuple[float, float]) -> None:
    """Along points, in shares of the picture."""
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*at[0])
    page.mouse.down()
    for point in at[1:]:
        page.mouse.move(*point, steps=4)
    page.mouse.up()


def says(page: Page, text: str | re.Pattern[str]) -> None:
    """What the editor says of the mask."""
    expect(page.locator(".told [role=status]")).to_have_text(text)


def sent(page: Page, server: Process) -> tuple[dict[str, Any], Image.Image | None]:
    """Send it: the session, and the alpha channel of its mask."""
    if page.get_by_role("button", name="Done").is_visible():
        page.get_by_role("button", name="Done").click()
        expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("textbox", name="Instruction").fill("make it golden")
    page.get_by_role("button", name="Edit", exact=True).click()
    page.wait_for_url("**/sessions/*")
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as api:
        session = api.get(f"/v1/sessions/{page.url.rpartition('/')[2]}").json()
        masked = api.get(session["mask"]["url"]).content if session.get("mask") else None
    return session, Image.open(io.BytesIO(masked)).getchannel("A") if masked else None


def test_what_is_painted_may_change_and_the_rest_is_opaque(page: Page, server: Process) -> None:
    opened(page, server, photo())
    box = painting(page)
    page.get_by_role("radio", name="Box").click()
    drag(page, box, (0.25, 0.25), (0.75, 0.75))
    says(page, "25 % may change")
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("button", name="Mask: 25 % may change")).to_be_visible()
    page.get_by_text("The same with curl or Python").click()
    expect(page.get_by_label("The request as code")).to_contain_text("-F mask=@mask.png")
    page.get_by_role("button", name="Python").click()
    expect(page.get_by_label("The request as code")).to_contain_text('mask="mask.png"')
    with page.expect_download() as saved:
        page.get_by_role("link", name="mask.png").click()
    with Image.open(saved.value.path()) as downloaded:
        assert downloaded.size == SIZE

    _, alpha = sent(page, server)
    assert alpha and alpha.size == SIZE
    assert [alpha.getpixel(point) for point in ((60, 40), (33, 23), (5, 5), (115, 75))] == [0, 0, 255, 255]


def test_every_tool_of_the_mask_does_what_it_says(page: Page, server: Process) -> None:
    opened(page, server, photo())
    box = painting(page)
    size = page.get_by_role("slider", name="Size")
    before = int(size.input_value())
    for key in ("]", "]", "["):
        page.keyboard.press(key)
    assert int(size.input_value()) == before + 5
    size.fill("100")
    drag(page, box, (0, 0.5), (1, 0.5))
    says(page, "60 % may change")
    page.keyboard.press("e")
    expect(page.get_by_role("radio", name="Eraser")).to_be_checked()
    drag(page, box, (0, 0.5), (1, 0.5))
    says(page, "0 % may change")
    page.get_by_role("button", name="Undo").click()
    says(page, "60 % may change")
    page.keyboard.press("Control+z")
    says(page, "0 % may change")
    page.keyboard.press("Control+y")
    page.keyboard.press("i")
    says(page, "40 % may change")
    page.get_by_role("button", name="Clear").click()
    says(page, "0 % may change")
    expect(page.get_by_role("button", name="Redo")).to_be_disabled()
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("button", name="Mask", exact=True)).to_be_visible()


def test_a_mask_is_painted_with_the_keyboard_alone(page: Page, server: Process) -> None:
    opened(page, server, photo())
    page.get_by_role("button", name="Mask").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("application", name="Mask of photo.png")).to_be_focused()
    for key in ("Shift+ArrowLeft", "Space", "Shift+ArrowRight", "Shift+ArrowRight", "Space", "ArrowUp"):
        page.keyboard.press(key)
    says(page, re.compile(r"^[1-9] % may change$"))
    page.get_by_role("slider", name="Soft edge").fill("100")

    _, alpha = sent(page, server)
    assert alpha and alpha.getpixel((60, 40)) == min(alpha.get_flattened_data()) and alpha.getpixel((5, 5)) == 255
    assert len(alpha.getcolors() or ()) > 20, "the edge is soft"


def test_a_finger_paints(chrome: Browser, server: Process) -> None:
    profile = chrome.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = profile.new_page()
    opened(page, server, photo())
    box = painting(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    devtools = profile.new_cdp_session(page)
    for kind, share in (("touchStart", 0.2), ("touchMove", 0.5), ("touchMove", 0.8), ("touchEnd", None)):
        points = [] if share is None else [{"x": box["x"] + share * box["width"], "y": box["y"] + box["height"] / 2}]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    says(page, re.compile(r"^[1-9]\d? % may change$"))
    profile.close()


@pytest.mark.parametrize("kind", ["transparent", "white"])
def test_a_picture_is_imported_as_a_mask(page: Page, server: Process, kind: str) -> None:
    """At half the size: what is transparent may change, or what is white where nothing is transparent."""
    image = Image.new("RGBA", (60, 40), (0, 0, 0, 255)) if kind == "transparent" else Image.new("RGB", (60, 40))
    ImageDraw.Draw(image).rectangle((0, 0, 29, 39), fill=(0, 0, 0, 0) if kind == "transparent" else (255, 255, 255))
    opened(page, server, photo())
    painting(page)
    page.get_by_label("Import a mask").set_input_files(payload(Image.new("RGB", (40, 40)), "square.png"))
    expect(page.get_by_role("alert")).to_contain_text(re.compile("It has 40 . 40 pixels, the picture 120 . 80"))
    page.get_by_label("Import a mask").set_input_files(payload(image, "mask.png"))
    says(page, "50 % may change")

    _, alpha = sent(page, server)
    assert alpha and (alpha.getpixel((30, 40)), alpha.getpixel((90, 40))) == (0, 255)


def test_pictures_are_put_into_another_order(page: Page, server: Process) -> None:
    opened(page, server, photo("a.png", "red"), photo("b.png", "green"), photo("c.png", "blue"))
    page.get_by_role("button", name="Move back: a.png").click()
    expect(page.get_by_role("button", name=re.compile("^Move .*: a.png")).first).to_be_focused()
    expect(page.get_by_role("listitem").first.get_by_role("img")).to_have_attribute("alt", "b.png")
    page.get_by_role("listitem").nth(2).drag_to(page.get_by_role("listitem").first)
    page.get_by_text("The same with curl or Python").click()
    expect(page.get_by_label("The request as code")).to_contain_text(re.compile("c.png.*b.png.*a.png", re.DOTALL))

    session, _ = sent(page, server)
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as api:
        urls = [each["url"] for each in (session["source"], *session["references"])]
        colours = [Image.open(io.BytesIO(api.get(url).content)).convert("RGB").getpixel((60, 40)) for url in urls]
    assert colours == [(0, 0, 255), (0, 128, 0), (255, 0, 0)]


def test_presets_are_saved_applied_and_deleted(page: Page, server: Process) -> None:
    opened(page, server, photo())
    page.get_by_label("Turns at most").fill("2")
    page.get_by_label("Name of a preset").fill("Quick")
    page.get_by_role("button", name="Save").click()
    preset = page.get_by_role("button", name="Quick", exact=True)
    expect(preset).to_have_attribute("aria-pressed", "true")
    page.get_by_label("Turns at most").fill("7")
    expect(preset).to_have_attribute("aria-pressed", "false")
    page.reload()
    page.get_by_text("Options").click()
    preset.click()
    expect(page.get_by_label("Turns at most")).to_have_value("2")
    expect(page.get_by_label("Editor")).to_have_value("many")
    page.get_by_role("button", name="Delete the preset Quick").click()
    expect(preset).to_be_hidden()
    page.reload()
    page.get_by_text("Options").click()
    expect(preset).to_be_hidden()


def test_an_error_of_the_api_is_shown_at_the_field_that_it_names(page: Page, server: Process) -> None:
    opened(page, server, photo())
    page.get_by_label("Turns at most").fill("1000")
    page.get_by_text("Options").click()
    page.get_by_role("textbox", name="Instruction").fill("make it golden")
    page.keyboard.press("Control+Enter")
    field = page.get_by_label("Turns at most")
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(re.compile("max_turns"))
    field.fill("1")
    expect(page.get_by_role("alert")).to_be_hidden()
    page.get_by_role("textbox", name="Instruction").fill("")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("textbox", name="Instruction")).to_be_focused()
    expect(page.get_by_role("alert")).to_have_text("Say what should change.")


def test_what_an_editor_does_not_take_is_not_offered(page: Page, server: Process) -> None:
    opened(page, server, photo("a.png"), photo("b.png"), model="one")
    expect(page.get_by_role("button", name="Mask")).to_be_disabled()
    expect(page.get_by_text("one takes one picture: choose another editor, or remove 1.")).to_be_visible()
    expect(page.get_by_label("Add references")).to_be_hidden()
    page.get_by_label("Editor").select_option("many")
    expect(page.get_by_role("button", name="Mask")).to_be_enabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_mask_or_the_chosen_pictures(page: Page, server: Process, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    opened(page, server, photo("a.png"), photo("b.png"))
    page.get_by_label("Name of a preset").fill("Quick")
    page.get_by_role("button", name="Save").click()
    found = Axe().run(page).response["violations"]
    drag(page, painting(page), (0.2, 0.5), (0.7, 0.5))
    found += Axe().run(page).response["violations"]
    assert [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found] == []


def test_a_large_picture_is_reduced_until_its_pixels_are_seen(page: Page, server: Process) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.partition("/v1/")[2]) if "/source" in request.url else None)
    opened(page, server, photo(size=(2400, 1600)))
    page.get_by_label("Turns at most").fill("1")
    sent(page, server)
    expect(page.get_by_text("Done", exact=True)).to_be_visible()
    expect(page.locator(".stage img").first).to_have_js_property("naturalWidth", 1024)
    assert asked and all("max_side=" in url for url in asked)
    page.keyboard.press("z")
    expect(page.locator(".stage img").first).to_have_js_property("naturalWidth", 2400)
    page.keyboard.press("z")
    page.keyboard.press("m")
    page.keyboard.press("m")
    page.keyboard.press("m")
    assert label(page).startswith("Difference")
    expect(page.locator(".stage img").first).to_have_js_property("naturalWidth", 2400)
    page.goto(f"{server.url}/studio/sessions")
    expect(page.get_by_role("listitem").locator("img")).to_have_js_property("naturalWidth", 512)


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_moves_while_a_screen_loads(
    page: Page, orchestrator: Process, api: httpx.Client, script: Script, width: int
) -> None:
    """Skeletons have the size of what takes their place: the layout's shift, as web vitals measure it, is good below 0.1."""
    session = create(api, wait=20).json()
    page.set_viewport_size({"width": width, "height": 800})
    page.add_init_script(
        """window.shift = 0;
        const add = (list) => list.getEntries().forEach((each) => (window.shift += each.value));
        new PerformanceObserver(add).observe({ type: "layout-shift", buffered: true });"""
    )
    for path in ("/studio", "/studio/sessions", f"/studio/sessions/{session['id']}"):
        page.goto(orchestrator.url + path)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("window.shift") < 0.02, path

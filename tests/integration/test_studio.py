"""The studio in a real browser: its screens, its keys, what a screen reader is told, and that its policy is never broken."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, FilePayload, Page, expect

from tests.attacks.target import Target, target
from tests.doubles.chromium import chromium
from tests.doubles.debian import NoProgramError, browser
from tests.doubles.processes import Process
from tests.doubles.upstreams import Script
from tests.integration.conftest import Start
from tests.integration.test_sessions import create

pytestmark = pytest.mark.xdist_group("browser")

_WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""
WIDTHS = [(360, 740), (768, 1024), (1280, 800), (2560, 1440)]


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server with keys, of two tenants."""
    with target(tmp_path_factory.mktemp("keyed")) as running:
        yield running


@pytest.fixture(scope="module")
def chrome(keyed: Target) -> Iterator[Browser]:
    """Started after the server with keys, which makes them in an event loop; there can be no other within Playwright's."""
    try:
        browser()
    except NoProgramError as exc:
        pytest.skip(f"there is no browser: {exc}")
    expect.set_options(timeout=30_000)
    with chromium() as running:
        yield running


@pytest.fixture
def context(chrome: Browser) -> Iterator[BrowserContext]:
    """A browser profile of this test's own; no page of it may break the policy or raise."""
    profile = chrome.new_context(viewport={"width": 1280, "height": 800})
    profile.add_init_script(_WATCH)
    profile.set_default_timeout(30_000)
    raised: list[str] = []
    profile.on("weberror", lambda error: raised.append(str(error.error)))
    yield profile
    broken = [text for page in profile.pages for text in page.evaluate("window.violations ?? []")]
    profile.close()
    assert (broken, raised) == ([], [])


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


def photo(width: int = 96, height: int = 64) -> FilePayload:
    """A picture with detail, as a file for a form of the page."""
    picture = Image.radial_gradient("L").resize((width, height)).convert("RGB")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return {"name": "photo.png", "mimeType": "image/png", "buffer": buffer.getvalue()}


def shown(page: Page, orchestrator: Process, session: dict[str, Any]) -> Page:
    """The screen of a session, once its pictures are there."""
    page.goto(f"{orchestrator.url}/studio/sessions/{session['id']}")
    expect(page.get_by_role("button", name="Source", exact=True)).to_be_visible()
    return page


def label(page: Page) -> str:
    """What the stage says that it shows."""
    return page.locator(".stage").get_attribute("aria-label") or ""


# --- start ----------------------------------------------------------------------------------------------------------------


def test_an_edit_is_made_and_watched_with_nothing_but_the_screen(
    page: Page, orchestrator: Process, api: httpx.Client, script: Script
) -> None:
    page.goto(orchestrator.url)
    expect(page).to_have_url(f"{orchestrator.url}/studio")
    page.get_by_label("Choose pictures").set_input_files(photo())
    page.get_by_role("textbox", name="Instruction").fill("make it golden")
    page.get_by_role("button", name="Edit", exact=True).click()

    expect(page.get_by_text("Done", exact=True)).to_be_visible()
    expect(page.get_by_text("Ended after 3 turns: a candidate met both thresholds.")).to_be_visible()
    assert label(page) == "Wipe: Source and Turn 3"
    expect(page.get_by_role("button", name="Turn 3, candidate 1: score 9.0, best")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("ins")).to_have_text("+")
    assert len(script.edits) == 3


def test_the_picture_that_the_page_asks_for_early_is_the_one_that_it_shows(
    page: Page, orchestrator: Process, api: httpx.Client, script: Script
) -> None:
    """Two files write that address; where they differ, the picture is loaded twice."""
    session = create(api, wait=20).json()
    shown(page, orchestrator, session)

    early = page.locator('link[rel="preload"][as="image"]').evaluate("each => each.href")
    assert page.locator("img.thumb").first.evaluate("each => each.src") == early


def test_an_edit_without_a_picture_says_what_is_missing(page: Page, orchestrator: Process, script: Script) -> None:
    page.goto(f"{orchestrator.url}/studio")
    page.get_by_role("textbox", name="Instruction").fill("make it golden")
    page.keyboard.press("Control+Enter")

    expect(page.get_by_role("alert")).to_contain_text("Choose a picture first")


def test_options_are_sent_and_kept_in_this_browser(page: Page, orchestrator: Process, api: httpx.Client, script: Script) -> None:
    page.goto(f"{orchestrator.url}/studio")
    page.get_by_label("Choose pictures").set_input_files(photo())
    page.get_by_role("textbox", name="Instruction").fill("make it golden")
    page.get_by_text("Options").click()
    page.get_by_label("Strategy").select_option("best_of_n")
    page.get_by_label("Candidates a turn").fill("2")
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(page.get_by_text("Done", exact=True)).to_be_visible()

    (session,) = api.get("/v1/sessions").json()["data"]
    assert (session["strategy"], session["limits"]["candidates"]) == ("best_of_n", 2)
    page.get_by_role("link", name="New edit").click()
    expect(page.get_by_text("Options: best_of_n, 2")).to_be_visible()


def test_an_instruction_of_markup_is_shown_as_text(page: Page, orchestrator: Process, api: httpx.Client, script: Script) -> None:
    markup = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    session = create(api, wait=20, prompt=markup, max_turns=1).json()
    shown(page, orchestrator, session)

    expect(page.get_by_role("heading", level=1)).to_have_text(markup)
    assert "owned" not in page.title().split(" · ")[-1] and page.locator("img[src=x]").count() == 0


# --- a session, live --------------------------------------------------------------------------------------------------


def test_a_session_is_watched_live_and_steered(page: Page, orchestrator: Process, api: httpx.Client, script: Script) -> None:
    """Two pages of one session show the same."""
    script.scores = [(3, 9)]
    session = create(api, review="each_turn").json()
    shown(page, orchestrator, session)
    other = shown(page.context.new_page(), orchestrator, session)
    for each in (page, other):
        expect(each.get_by_text("Waiting for you")).to_be_visible()
    page.keyboard.press("i")
    page.get_by_label("The next turn's instruction").fill("make it silver")
    page.get_by_role("button", name="Send").click()

    for each in (page, other):
        expect(each.get_by_role("button", name=re.compile("^Turn 2, candidate 1: score"))).to_be_visible()
        expect(each.get_by_text("a person").first).to_be_visible()
    # The turn is scored before the session waits again, and until then the key does nothing.
    expect(page.get_by_text("Waiting for you")).to_be_visible()
    page.keyboard.press("g")
    expect(page.get_by_role("button", name=re.compile("^Turn 3, candidate 1: score"))).to_be_visible()
    other.keyboard.press("a")
    expect(other.get_by_text("Accepting turn 1…")).to_be_visible()
    for each in (page, other):
        expect(each.get_by_text("Done", exact=True)).to_be_visible()
    assert api.get(session["urls"]["self"]).json()["finish_reason"] == "accepted"


def test_a_decision_is_taken_back_before_it_is_sent(page: Page, orchestrator: Process, api: httpx.Client, script: Script) -> None:
    script.scores = [(3, 9)]
    session = create(api, review="each_turn").json()
    shown(page, orchestrator, session)
    expect(page.get_by_text("Waiting for you")).to_be_visible()
    # Time stands still but for what is run here: on a busy machine, what is to be taken back would have been sent.
    page.clock.install()
    page.clock.pause_at(time.time() + 60)
    page.keyboard.press("1")
    expect(page.get_by_text("Picking turn 1…")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text("Picking turn 1…")).to_be_hidden()
    page.clock.run_for(10_000)
    assert api.get(session["urls"]["self"]).json()["status"] == "awaiting_review"

    page.keyboard.press("1")
    expect(page.get_by_text("Picking turn 1…")).to_be_visible()
    page.clock.run_for(5_000)
    page.clock.resume()
    expect(page.get_by_text("Done", exact=True)).to_be_visible()


def test_leaving_the_screen_sends_what_was_decided(page: Page, orchestrator: Process, api: httpx.Client, script: Script) -> None:
    script.scores = [(3, 9)]
    session = create(api, review="each_turn").json()
    shown(page, orchestrator, session)
    expect(page.get_by_text("Waiting for you")).to_be_visible()
    page.keyboard.press("a")
    page.get_by_role("link", name="Sessions").click()
    expect(page.get_by_text(re.compile("^Done, 1 turn"))).to_be_visible()


def test_a_session_is_cancelled(page: Page, orchestrator: Process, api: httpx.Client, script: Script) -> None:
    script.hold_every = True
    session = create(api).json()
    shown(page, orchestrator, session)
    expect(page.get_by_text("Working")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Cancelled", exact=True)).to_be_visible()
    script.release.set()


def test_a_replica_that_is_killed_is_reconnected_to_without_loss(page: Page, start_orchestrator: Start, script: Script) -> None:
    """While its session runs: the page goes on by itself once the replica is back."""
    script.scores = [(3, 9)]
    script.hold_edit = 2
    first = start_orchestrator()
    with httpx.Client(base_url=first.url, timeout=30, trust_env=False) as client:
        session = create(client, max_turns=3, patience=3).json()
        shown(page, first, session)
        expect(page.get_by_role("button", name=re.compile("^Turn 2, candidate 1: editing"))).to_be_visible()
        first.kill()
        expect(page.get_by_text("Reconnecting…")).to_be_visible()
        start_orchestrator(first.port)
        script.release.set()
        expect(page.get_by_text("Done", exact=True)).to_be_visible(timeout=60_000)
        turns = client.get(session["urls"]["self"]).json()["turns"]
    assert page.get_by_role("button", name=re.compile(r"^Turn \d, candidate 1: score")).count() == len(turns) == 3


# --- comparing ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def three_turns(page: Page, orchestrator: Process, api: httpx.Client, script: Script) -> Page:
    """A finished session of three turns."""
    opened = shown(page, orchestrator, create(api, wait=20).json())
    expect(opened.get_by_text("Done", exact=True)).to_be_visible()
    return opened


def test_every_key_of_the_comparison_does_what_it_says(three_turns: Page) -> None:
    page = three_turns
    seen = [label(page)]
    for key in ("ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown", "m", "m", "m", "m", "c", " ", " "):
        page.keyboard.press(key)
        page.evaluate("() => new Promise(requestAnimationFrame)")
        seen.append(label(page))

    assert seen == [
        *("Wipe: Source and Turn 3", "Wipe: Source and Turn 2", "Wipe: Source and Turn 1", "Wipe: Source and Turn 2"),
        *("Wipe: Source and Turn 3", "Side by side: Source and Turn 3", "Flip: Source and Turn 3"),
        *("Difference: Source and Turn 3", "Wipe: Source and Turn 3", "Wipe: Turn 3 and Source"),
        *("Flip: Turn 3 and Source", "Flip: Turn 3 and Source"),
    ]
    page.keyboard.press("2")
    expect(page.get_by_role("button", name=re.compile("^Turn 2"))).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name=re.compile("^Turn 3"))).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Shift+?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_both_pictures_are_zoomed_and_moved_in_step(three_turns: Page) -> None:
    page = three_turns
    place = """() => {
      const all = (root) => [...root.querySelectorAll("*")].flatMap((each) => [each, ...below(each)]);
      const below = (each) => (each.shadowRoot ? all(each.shadowRoot) : []);
      return all(document).filter((each) => each.matches(".box")).map((each) => {
        const {x, y, width, height} = each.getBoundingClientRect();
        return [x, y, width, height].map(Math.round);
      });
    }"""
    fitted = page.evaluate(place)
    assert len(fitted) == 2 and fitted[0] == fitted[1]
    page.keyboard.press("z")
    expect(page.get_by_role("button", name="Zoom 100 %, fit or 1:1")).to_be_visible()
    stage = page.locator(".stage").bounding_box()
    assert stage
    middle = (stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2)
    page.mouse.move(*middle)
    for _ in range(20):
        page.mouse.wheel(0, -240)
    zoomed = page.evaluate(place)
    assert zoomed[0] == zoomed[1] and zoomed[0][2] > fitted[0][2]
    page.mouse.move(middle[0] + 150, middle[1] + 100)
    page.mouse.down()
    page.mouse.move(middle[0] + 190, middle[1] + 130)
    page.mouse.up()
    moved = page.evaluate(place)
    assert moved[0] == moved[1] and (moved[0][0] - zoomed[0][0], moved[0][1] - zoomed[0][1]) == (40, 30)


def test_the_line_is_moved_by_pointer_and_by_keys(three_turns: Page) -> None:
    page = three_turns
    line = page.get_by_role("slider", name="Wipe between Source and Turn 3")
    stage = page.locator(".stage").bounding_box()
    assert stage
    page.mouse.move(stage["x"] + stage["width"] / 2, stage["y"] + 50)
    page.mouse.down()
    page.mouse.move(stage["x"] + stage["width"] / 4, stage["y"] + 50)
    page.mouse.up()
    expect(line).to_have_attribute("aria-valuenow", "25")
    line.focus()
    page.keyboard.press("ArrowRight")
    expect(line).to_have_attribute("aria-valuenow", "27")
    assert label(page) == "Wipe: Source and Turn 3", "arrows on the line do not choose another turn"


def test_the_pixels_under_the_pointer_are_told(three_turns: Page) -> None:
    """The double's source is (90, 120, 60)."""
    page = three_turns
    stage = page.locator(".stage").bounding_box()
    assert stage
    page.mouse.move(stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2)

    expect(page.locator(".pixel")).to_contain_text("16, 12")
    expect(page.locator(".pixel")).to_contain_text(re.compile("#5a783c.*#5a783c", re.DOTALL))


def test_two_turns_are_compared(three_turns: Page) -> None:
    page = three_turns
    page.get_by_label("Compare with").select_option("1/1")
    expect(page.locator(".stage")).to_have_attribute("aria-label", "Wipe: Turn 1 and Turn 3")
    page.get_by_label("Compare with").select_option("previous")
    expect(page.locator(".stage")).to_have_attribute("aria-label", "Wipe: Turn 2 and Turn 3")


# --- the gallery ----------------------------------------------------------------------------------------------------------


def test_sessions_are_found_filtered_and_deleted(page: Page, orchestrator: Process, api: httpx.Client, script: Script) -> None:
    for prompt in ("a boat", "a lighthouse", "a boat at night"):
        create(api, wait=20, prompt=prompt, max_turns=1)
    page.goto(f"{orchestrator.url}/studio/sessions")
    expect(page.get_by_role("listitem")).to_have_count(3)
    page.get_by_role("searchbox").fill("boat")
    expect(page.get_by_role("listitem")).to_have_count(2)
    page.get_by_role("button", name="Select").click()
    page.get_by_label("Select a boat at night").check()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("listitem")).to_have_count(1)
    page.get_by_role("searchbox").fill("")
    page.get_by_label("Status").select_option("failed")
    expect(page.get_by_text("No session matches these filters.")).to_be_visible()
    assert sorted(each["instruction"] for each in api.get("/v1/sessions").json()["data"]) == ["a boat", "a lighthouse"]


def test_ten_thousand_sessions_are_scrolled_with_few_elements(page: Page, orchestrator: Process) -> None:
    """The sessions are made up here; the list of them is the studio's."""
    served: list[int] = []

    def listed(route: Any) -> None:
        at = int(httpx.URL(route.request.url).params.get("cursor", "0"))
        served.append(at)
        rows = [entry(number) for number in range(at, at + 100)]
        route.fulfill(json={"object": "list", "data": rows, "next_cursor": str(at + 100) if at + 100 < 10_000 else None})

    page.route("**/v1/sessions?*", listed)
    page.route("**/v1/sessions/*/image*", lambda route: route.fulfill(body=photo()["buffer"], content_type="image/png"))
    page.goto(f"{orchestrator.url}/studio/sessions")
    expect(page.get_by_role("listitem").first).to_be_visible()
    page.evaluate(
        """async () => {
          const gallery = document.querySelector("edit-studio").shadowRoot.querySelector("edit-gallery");
          const nextFrame = () => new Promise(requestAnimationFrame);
          for (; !gallery.done; await nextFrame()) scrollTo(0, document.body.scrollHeight);
          await gallery.updateComplete;
          scrollTo(0, document.body.scrollHeight);
        }"""
    )
    assert max(served) == 9_900 and len(served) == 100
    assert page.get_by_role("listitem").count() < 100
    expect(page.get_by_text("instruction 9999", exact=True)).to_be_visible()


def entry(number: int) -> dict[str, Any]:
    return {
        "id": f"ses_{number}",
        "status": "succeeded",
        "instruction": f"instruction {number}",
        "editor": "double",
        "created_at": 1_796_000_000 - number,
        "scores": {"semantic": 8, "quality": 8, "overall": 8.0},
        "best": {"turn": 1, "candidate": 1},
        "source": {"url": f"/v1/sessions/ses_{number}/source"},
        "totals": {"turns": 1, "edits": 1},
    }


# --- keys -----------------------------------------------------------------------------------------------------------------


def test_a_person_signs_in_with_a_key_that_the_page_does_not_keep(page: Page, keyed: Target) -> None:
    page.goto(f"{keyed.process.url}/studio")
    page.get_by_label("API key").fill("et_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not valid")
    page.get_by_label("API key").fill(keyed.keys["ann"])
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Choose pictures").set_input_files(photo())
    page.get_by_role("textbox", name="Instruction").fill("make it golden")
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(page.get_by_text("Done", exact=True)).to_be_visible()
    kept = page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
    assert keyed.keys["ann"] not in kept and "editthinker_sign_in" not in kept
    foreign(page.context, keyed, page.url)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    page.reload()
    expect(page.get_by_label("API key")).to_be_visible()


def foreign(context: BrowserContext, running: Target, url: str) -> None:
    """Another tenant, in another profile, does not find the session."""
    assert context.browser
    other = context.browser.new_context()
    page = other.new_page()
    page.goto(f"{running.process.url}/studio")
    page.get_by_label("API key").fill(running.keys["bob"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_label("Choose pictures")).to_be_attached()
    page.goto(url)
    expect(page.get_by_role("alert")).to_contain_text("there is no session")
    other.close()


# --- quality --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_screen(
    page: Page, orchestrator: Process, api: httpx.Client, script: Script, scheme: Any
) -> None:
    session = create(api, wait=20).json()
    waiting = create(api, review="each_turn").json()
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    found = {}
    screens: dict[str, str | re.Pattern[str]] = {
        "/studio": "What should change?",
        "/studio/sessions": re.compile("^Done, 3 turns"),
        f"/studio/sessions/{session['id']}": "Done",
        f"/studio/sessions/{waiting['id']}": "Waiting for you",
    }
    for path, ready in screens.items():
        page.goto(orchestrator.url + path)
        expect(page.get_by_text(ready, exact=True).first).to_be_visible()
        for summary in page.locator("summary").all():
            summary.click()
        for mode in range(4 if "ses_" in path else 1):
            if mode:
                page.keyboard.press("m")
            results = Axe().run(page).response["violations"]
            for each in results:
                found[path, mode, each["id"]] = [
                    node["html"][:200] + " " + node["failureSummary"][:300] for node in each["nodes"]
                ]
    assert found == {}


@pytest.mark.parametrize(("width", "height"), WIDTHS)
def test_no_screen_is_wider_than_the_window(
    page: Page, orchestrator: Process, api: httpx.Client, script: Script, width: int, height: int
) -> None:
    session = create(api, wait=20, prompt="x" * 300).json()
    page.set_viewport_size({"width": width, "height": height})
    for path in ("/studio", "/studio/sessions", f"/studio/sessions/{session['id']}"):
        page.goto(orchestrator.url + path)
        expect(page.get_by_role("main")).to_be_visible()
        page.evaluate("() => new Promise(requestAnimationFrame)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_the_screen_is_used_with_the_keyboard_alone(page: Page, orchestrator: Process, api: httpx.Client, script: Script) -> None:
    """Tab reaches every control, the first one leads past the header, and what has the focus is seen."""
    session = create(api, wait=20, max_turns=1).json()
    shown(page, orchestrator, session)
    names: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        name = page.evaluate(
            """() => {
              let at = document.activeElement;
              while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
              const style = at && getComputedStyle(at);
              return at && (at.getAttribute("aria-label") || at.textContent.trim() || at.tagName);
            }"""
        )
        names.append(re.sub(r"\s+", " ", name or ""))
    wanted = [
        "Skip to content",
        "New edit",
        "Sessions",
        "Keys",
        "Wipe between Source and Turn 1",
        "Swap sides",
        "Source",
        "Download",
    ]
    at = [names.index(name) for name in wanted]
    assert at == sorted(at), names

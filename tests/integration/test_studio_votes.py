"""The studio's blind comparison, its operator's screen and ratings, in a real browser."""

from __future__ import annotations

import re
import sys
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.attacks.target import Target
from tests.doubles.processes import Process
from tests.doubles.upstreams import Script
from tests.integration.test_sessions import create
from tests.integration.test_studio import chrome, context, entry, keyed, page, photo

pytestmark = pytest.mark.xdist_group("browser")
__all__ = ["chrome", "context", "keyed", "page"]  # fixtures

LEFT = re.compile(r"^. is better$")


def votes(api: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get("/v1/preferences?limit=100").json()["data"]
    return found


COUNT = "(wanted) => fetch('/v1/preferences').then((reply) => reply.json()).then(({ data }) => data.length === wanted)"


def stored(page: Page, api: httpx.Client, number: int) -> list[dict[str, Any]]:
    """The votes and ratings, once the server has so many."""
    page.wait_for_function(COUNT, arg=number)
    return votes(api)


@pytest.fixture
def three_strategies(api: httpx.Client, script: Script) -> list[dict[str, Any]]:
    """Sessions of one task: three pairs."""
    return [create(api, wait=20, strategy=name).json() for name in ("think", "single", "best_of_n")]


def blind(page: Page, orchestrator: Process, of: str = "strategies") -> Page:
    page.goto(f"{orchestrator.url}/studio/blind?of={of}")
    expect(page.locator(".stage")).to_be_visible()
    return page


# --- blind comparison -------------------------------------------------------------------------------------------------


def test_pairs_are_voted_on_with_keys_and_names_are_hidden_until_then(
    page: Page, orchestrator: Process, api: httpx.Client, three_strategies: list[dict[str, Any]]
) -> None:
    blind(page, orchestrator)
    expect(page.get_by_text("3 pairs left", exact=True)).to_be_visible()
    names = re.compile("best_of_n|single|think(?!er)", re.IGNORECASE)
    assert not names.search(page.get_by_role("main").inner_text())
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_text("2 pairs left", exact=True)).to_be_visible()
    page.keyboard.press("t")
    expect(page.get_by_text("1 pair left", exact=True)).to_be_visible()
    page.keyboard.press("s")
    expect(page.get_by_text("You have voted on every pair there is.")).to_be_visible()

    made = stored(page, api, 3)
    assert sorted(each["choice"] for each in made) == ["a", "skip", "tie"]
    assert {each["label"] for each in made} == {"strategies"}
    assert all(each["a"]["strategy"] != each["b"]["strategy"] for each in made)
    assert len({frozenset((each["a"]["session_id"], each["b"]["session_id"])) for each in made}) == 3
    expect(page.get_by_role("row", name=re.compile(r"^(single|think|best_of_n) 1 · [01] · 0 \d+ %"))).to_have_count(1)


def test_the_last_vote_is_taken_back(
    page: Page, orchestrator: Process, api: httpx.Client, three_strategies: list[dict[str, Any]]
) -> None:
    blind(page, orchestrator)
    picture = page.locator("edit-compare img").first
    shown = picture.get_attribute("src")
    page.keyboard.press("ArrowRight")
    assert [each["choice"] for each in stored(page, api, 1)] == ["b"]
    page.keyboard.press("u")
    expect(page.get_by_text("3 pairs left", exact=True)).to_be_visible()

    assert votes(api) == [] and picture.get_attribute("src") == shown
    expect(page.get_by_role("button", name="Undo last vote")).to_be_disabled()


def test_the_picture_at_the_left_is_chosen_also_when_sides_are_swapped(
    page: Page, orchestrator: Process, api: httpx.Client, three_strategies: list[dict[str, Any]]
) -> None:
    blind(page, orchestrator)
    page.keyboard.press("c")
    expect(page.get_by_role("button", name=LEFT).first).to_have_text(re.compile("B is better"))
    page.keyboard.press("ArrowLeft")

    assert [each["choice"] for each in stored(page, api, 1)] == ["b"]


def test_a_reason_is_written_without_voting(
    page: Page, orchestrator: Process, api: httpx.Client, three_strategies: list[dict[str, Any]]
) -> None:
    blind(page, orchestrator)
    page.get_by_label("Reason (optional)").fill("its sky")
    page.get_by_label("Reason (optional)").press("t")
    page.get_by_role("button", name="Tie").click()

    assert [(each["choice"], each["reason"]) for each in stored(page, api, 1)] == [("tie", "its skyt")]


def test_turns_of_one_session_are_compared(page: Page, orchestrator: Process, api: httpx.Client, script: Script) -> None:
    session = create(api, wait=20).json()
    blind(page, orchestrator, "turns")
    expect(page.get_by_text("3 pairs left", exact=True)).to_be_visible()
    page.keyboard.press("o")
    expect(page.locator(".stage")).to_have_attribute("aria-label", "Source")
    for _ in range(3):
        page.keyboard.press("ArrowUp")
    made = stored(page, api, 3)

    assert {each["a"]["session_id"] for each in made} == {session["id"]}
    assert sorted(sorted((each["a"]["turn"], each["b"]["turn"])) for each in made) == [[1, 2], [1, 3], [2, 3]]
    expect(page.get_by_role("rowheader", name="Turn 3")).to_be_visible()


def test_a_vote_that_was_not_stored_comes_back(
    page: Page, orchestrator: Process, api: httpx.Client, three_strategies: list[dict[str, Any]]
) -> None:
    blind(page, orchestrator)
    page.route("**/v1/preferences", lambda route: route.abort())
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("alert")).to_contain_text("The vote was not stored")
    expect(page.get_by_text("3 pairs left", exact=True)).to_be_visible()


def test_without_pairs_the_screen_says_what_a_pair_is(page: Page, orchestrator: Process, api: httpx.Client) -> None:
    page.goto(f"{orchestrator.url}/studio/blind")
    expect(page.get_by_text("two finished sessions of one picture and instruction")).to_be_visible()
    page.get_by_label("What is compared").select_option("turns")
    expect(page.get_by_text("A pair is two turns of one session.")).to_be_visible()


def test_win_rates_have_wilsons_interval(page: Page, orchestrator: Process, api: httpx.Client, script: Script) -> None:
    """Against figures of statsmodels' proportion_confint(8, 10, method="wilson") and (0, 4)."""
    page.goto(f"{orchestrator.url}/studio/blind")
    rows = page.evaluate(
        """async () => {
          const assets = document.querySelector("script[type=module]").src.replace("app.js", "blind.js");
          const { tally } = await import(assets);
          const vote = (choice) => ({ a: { editor: "x" }, b: { editor: "y" }, choice });
          return tally(["a", "a", "a", "a", "a", "a", "a", "b", "tie", "tie", "skip"].map(vote), "editor");
        }"""
    )
    by = {row["name"]: row for row in rows}
    assert (by["x"]["won"], by["x"]["tied"], by["x"]["lost"], by["x"]["rate"]) == (7, 2, 1, 0.8)
    assert (round(by["x"]["low"], 3), round(by["x"]["high"], 3)) == (0.49, 0.943)
    assert by["y"]["rate"] == pytest.approx(0.2)


# --- the operator's screen --------------------------------------------------------------------------------------------


def test_the_operator_sees_workers_queue_and_health(page: Page, orchestrator: Process, api: httpx.Client, script: Script) -> None:
    script.hold_every = True
    create(api)
    page.goto(f"{orchestrator.url}/studio/operator")
    workers = page.get_by_label("Workers")
    expect(workers.get_by_role("row", name=re.compile("^double editor ready 1 "))).to_be_visible()
    expect(page.get_by_role("row", name="Edits can be made yes")).to_be_visible()
    expect(page.get_by_role("row", name="Sessions that are not finished 1")).to_be_visible()
    expect(page.get_by_text("no endpoint tells it")).to_be_visible()
    script.release.set()
    expect(page.get_by_role("row", name="Sessions that are not finished 0")).to_be_visible()


def test_what_cannot_be_reached_is_not_known(page: Page, orchestrator: Process, api: httpx.Client) -> None:
    page.route("**/metrics", lambda route: route.abort())
    page.route("**/readyz", lambda route: route.abort())
    page.goto(f"{orchestrator.url}/studio/operator")
    for name in ("Edits can be made", "Replicas", "Sessions that are not finished"):
        expect(page.get_by_role("row", name=f"{name} not known")).to_be_visible()


def test_who_is_no_operator_does_not_see_the_screen(page: Page, keyed: Target) -> None:
    page.goto(f"{keyed.process.url}/studio/operator")
    page.get_by_label("API key").fill(keyed.keys["ann"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("link", name="Blind A/B")).to_be_visible()
    expect(page.get_by_role("link", name="Operator")).to_have_count(0)
    expect(page.locator("edit-operator")).to_have_count(0)


# --- ratings ----------------------------------------------------------------------------------------------------------


def test_sessions_are_rated_with_stars_and_keys_and_found_by_them(
    page: Page, orchestrator: Process, api: httpx.Client, script: Script
) -> None:
    for prompt in ("a boat", "a lighthouse"):
        create(api, wait=20, prompt=prompt, max_turns=1)
    page.goto(f"{orchestrator.url}/studio/sessions")
    page.get_by_role("group", name="Rating of a boat").get_by_role("button", name="4 stars").click()
    page.get_by_role("link", name=re.compile("a lighthouse")).focus()
    page.keyboard.press("2")
    expect(page.get_by_role("group", name="Rating of a lighthouse").get_by_role("button", name="2 stars")).to_have_attribute(
        "aria-pressed", "true"
    )
    stored(page, api, 2)
    page.reload()
    expect(page.get_by_role("listitem")).to_have_count(2)
    page.get_by_label("Rating", exact=True).select_option("4")
    expect(page.get_by_role("listitem")).to_have_count(1)
    expect(page.get_by_role("listitem")).to_contain_text("a boat")
    page.get_by_label("Rating", exact=True).select_option("")
    page.get_by_label("Order").select_option("rated")
    expect(page.get_by_role("listitem").first).to_contain_text("a boat")
    page.get_by_role("link", name=re.compile("a boat")).focus()
    page.keyboard.press("0")
    stored(page, api, 1)
    assert [each["rating"] for each in votes(api)] == [2]


def test_the_frames_of_ten_thousand_sessions_are_measured(
    page: Page, orchestrator: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    """Printed, and not asserted: how long a frame takes depends on the machine."""

    def listed(route: Any) -> None:
        at = int(httpx.URL(route.request.url).params.get("cursor", "0"))
        rows = [entry(number) for number in range(at, at + 100)]
        route.fulfill(json={"object": "list", "data": rows, "next_cursor": str(at + 100) if at + 100 < 10_000 else None})

    page.route("**/v1/sessions?*", listed)
    page.route("**/v1/sessions/*/image", lambda route: route.fulfill(body=photo()["buffer"], content_type="image/png"))
    page.goto(f"{orchestrator.url}/studio/sessions")
    expect(page.get_by_role("listitem").first).to_be_visible()
    page.evaluate(
        """async () => {
          for (let before = -1; document.body.scrollHeight !== before; ) {
            before = document.body.scrollHeight;
            scrollTo(0, before);
            for (let wait = 0; wait < 40 && document.body.scrollHeight === before; wait++) {
              await new Promise((done) => setTimeout(done, 50));
            }
          }
        }"""
    )
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})

    def cpu_ms() -> float:
        """CPU time of the page's main thread."""
        figures = {each["name"]: each["value"] for each in devtools.send("Performance.getMetrics")["metrics"]}
        return float(figures["TaskDuration"]) * 1000

    before = cpu_ms()
    frames: list[float] = page.evaluate(
        """async () => {
          const took = [];
          for (let number = 0; number < 200; number++) {
            const began = performance.now();
            scrollBy(0, -400);
            await new Promise(requestAnimationFrame);
            took.push(performance.now() - began);
          }
          return took;
        }"""
    )
    each_ms, ordered = (cpu_ms() - before) / len(frames), sorted(frames)
    shares = ", ".join(f"p{share} {ordered[len(ordered) * share // 100]:.0f} ms" for share in (50, 95))
    with capsys.disabled():
        text = f"10,000 sessions, {len(frames)} frames of 400 px: {each_ms:.1f} ms of CPU each; on this machine now {shares}"
        sys.stdout.write(f"\n{text}, longest {ordered[-1]:.0f} ms\n")
    assert page.get_by_role("listitem").count() < 100


# --- quality ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_these_screens(
    page: Page, orchestrator: Process, api: httpx.Client, three_strategies: list[dict[str, Any]], scheme: Any
) -> None:
    api.post("/v1/preferences", json={"session_id": three_strategies[0]["id"], "rating": 4})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    found = {}
    for path, ready in (("blind", "3 pairs left"), ("operator", "Use by tenants"), ("sessions", "★")):
        page.goto(f"{orchestrator.url}/studio/{path}")
        expect(page.get_by_text(ready).first).to_be_visible()
        if path == "blind":
            page.keyboard.press("t")
            expect(page.get_by_role("table")).to_be_visible()
        for each in Axe().run(page).response["violations"]:
            found[path, each["id"]] = [node["html"][:200] + " " + node["failureSummary"][:300] for node in each["nodes"]]
    assert found == {}


@pytest.mark.parametrize("width", [360, 768, 1280, 2560])
def test_these_screens_are_not_wider_than_the_window(
    page: Page, orchestrator: Process, api: httpx.Client, three_strategies: list[dict[str, Any]], width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 760})
    for path, ready in (("blind", "edit-compare"), ("operator", "section"), ("sessions", ".stars")):
        page.goto(f"{orchestrator.url}/studio/{path}")
        expect(page.locator(ready).first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_a_pair_is_voted_on_by_touch(
    chrome: Browser, orchestrator: Process, api: httpx.Client, three_strategies: list[dict[str, Any]]
) -> None:
    profile = chrome.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = blind(profile.new_page(), orchestrator)
    page.get_by_role("button", name="A is better").tap()

    assert [each["choice"] for each in stored(page, api, 1)] == ["a"]
    profile.close()


def test_a_vote_is_cast_with_the_keyboard_alone(
    page: Page, orchestrator: Process, api: httpx.Client, three_strategies: list[dict[str, Any]]
) -> None:
    """Tab reaches the buttons as well, and the focus stays usable after a vote."""
    blind(page, orchestrator)
    page.get_by_role("button", name="Tie").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("2 pairs left", exact=True)).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 pair left", exact=True)).to_be_visible()
    assert [each["choice"] for each in stored(page, api, 2)] == ["tie", "tie"]

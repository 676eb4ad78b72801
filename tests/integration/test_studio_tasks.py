"""Five tasks of a person who has only the screen: what is clicked is found by the texts and roles that it shows."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.doubles.chromium import chromium
from tests.doubles.debian import NoProgramError, browser
from tests.doubles.processes import Process
from tests.doubles.upstreams import Script
from tests.integration.test_sessions import create
from tests.integration.test_studio import photo

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    try:
        browser()
    except NoProgramError as exc:
        pytest.skip(f"there is no browser: {exc}")
    with chromium() as running:
        yield running


@pytest.fixture(params=[(1280, 800), (360, 740)], ids=["desktop", "phone"])
def context(request: pytest.FixtureRequest, chrome: Browser) -> Iterator[BrowserContext]:
    width, height = request.param
    profile = chrome.new_context(viewport={"width": width, "height": height}, has_touch=width < 500)
    profile.grant_permissions(["clipboard-read", "clipboard-write"])
    profile.set_default_timeout(30_000)
    expect.set_options(timeout=30_000)
    yield profile
    profile.close()


def test_a_new_user_edits_steers_compares_shares_and_votes(
    context: BrowserContext, orchestrator: Process, api: httpx.Client, script: Script
) -> None:
    page = context.new_page()
    page.goto(orchestrator.url)
    edit_and_steer(page, script)
    compare(page)
    seen = share(page)
    guest(context, seen)
    # Three turns make three pairs: each with the next, and the first with the last.
    create(api, wait=20, prompt="make it silver")
    vote(page, api)


def edit_and_steer(page: Page, script: Script) -> None:
    """Make an edit that asks after each turn; instruct, go on, and pick a turn that is not the best."""
    script.scores = [(6, 9), (5, 9), (4, 9)]
    page.get_by_label("Choose pictures").set_input_files(photo())
    page.get_by_role("textbox", name="Instruction").fill("make it golden")
    page.get_by_text("Options").click()
    page.get_by_label("Ask me").select_option("After every turn")
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(page.get_by_text("Waiting for you")).to_be_visible()
    page.get_by_role("button", name="Instruct").click()
    page.get_by_label("The next turn's instruction").fill("make it more golden")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("button", name=re.compile("^Turn 2, candidate 1: score"))).to_be_visible()
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("button", name=re.compile("^Turn 3, candidate 1: score"))).to_be_visible()
    page.get_by_role("button", name=re.compile("^Turn 2")).click()
    page.get_by_role("button", name="Pick this one").click()
    expect(page.get_by_text("Picking turn 2…")).to_be_visible()
    expect(page.get_by_text("Done", exact=True)).to_be_visible()
    expect(page.get_by_text("Ended after 3 turns: a person decided.")).to_be_visible()


def compare(page: Page) -> None:
    """Turn 1 and turn 3, pixel for pixel."""
    page.get_by_role("button", name=re.compile("^Turn 3")).click()
    page.get_by_label("Compare with").select_option("with Turn 1")
    page.get_by_role("radio", name="Side by side").click()
    page.get_by_role("button", name=re.compile("fit or 1:1")).click()
    expect(page.get_by_role("group", name="Side by side: Turn 1 and Turn 3")).to_be_visible()
    expect(page.get_by_role("button", name="Zoom 100 %, fit or 1:1")).to_be_visible()


def share(page: Page) -> str:
    """The link, as it is copied."""
    page.get_by_role("button", name="Share").click()
    dialog = page.get_by_role("dialog", name="Share")
    dialog.get_by_role("button", name="Make link").click()
    dialog.get_by_role("button", name="Copy").click()
    expect(dialog.get_by_role("button", name="Copied")).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    return str(page.evaluate("navigator.clipboard.readText()"))


def guest(context: BrowserContext, link: str) -> None:
    """Somebody else opens it, and can look but not steer."""
    assert context.browser
    other = context.browser.new_context()
    page = other.new_page()
    page.goto(link)
    expect(page.get_by_text("Read only")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^Turn 2, candidate 1: .*best"))).to_be_visible()
    expect(page.get_by_role("button", name="Delete")).to_have_count(0)
    expect(page.get_by_role("navigation").get_by_role("link")).to_have_count(0)
    other.close()


def vote(page: Page, api: httpx.Client) -> None:
    """Five pairs, whose names are hidden until there are votes."""
    page.get_by_role("link", name="Blind A/B").click()
    expect(page.get_by_text("Choose Turns to vote on what single sessions made.")).to_be_visible()
    page.get_by_label("What is compared").select_option("Turns")
    expect(page.get_by_text("Names and win rates appear here after your first vote.")).to_be_visible()
    for choice in ("A is better", "B is better", "Tie", "A is better", "B is better"):
        page.get_by_role("button", name=choice).click()
    expect(page.get_by_role("table", name="Who wins how often").get_by_role("row")).to_have_count(4)
    page.get_by_role("link", name="Sessions").click()
    expect(page.get_by_role("listitem")).to_have_count(2)
    votes = api.get("/v1/preferences").json()["data"]
    assert sorted(each["choice"] for each in votes) == ["a", "a", "b", "b", "tie"]

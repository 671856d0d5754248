"""Fixtures and helpers: the browser, the server, and a page that must log no errors."""

import os

import pytest
from playwright.sync_api import expect, sync_playwright

from serve import TARGET, Serve

SHOTS = TARGET / "screenshots"

# An upper limit: the machine may be busy.
PATIENCE_MS = 180_000
expect.set_options(timeout=PATIENCE_MS)

CHROMIUM_ARGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ["CHROMIUM"], args=CHROMIUM_ARGS
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server():
    server = Serve()
    yield server
    server.stop()


@pytest.fixture
def open_page(browser, server):
    """Opens the page in a browser with these settings. At the end of the test the page must
    have logged no errors but the expected ones."""
    contexts, complaints, expected = [], [], []

    def open_page(url=None, expect_complaints=(), **settings):
        settings = {"viewport": {"width": 1280, "height": 960}, **settings}
        context = browser.new_context(**settings)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        expected.extend(expect_complaints)
        page = context.new_page()
        home = url or server.url
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
        page.on(
            "request",
            lambda asked: asked.url.startswith(home)
            or complaints.append(f"asks elsewhere: {asked.url}"),
        )
        page.goto(home)
        return page

    yield open_page
    for context in contexts:
        context.close()
    unexpected = [c for c in complaints if not any(words in c for words in expected)]
    assert not unexpected


@pytest.fixture
def page(open_page):
    page = open_page()
    expect(page.locator("#connection")).to_have_text("live")
    return page


def shoot(page, name, **more):
    """Saves a screenshot for people to look at."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", **more)


# A question whose answer has as many tokens as are allowed, for tests that watch it being
# generated, also on a fast machine.
ENDLESS = "Write out the numbers: " + ", ".join(map(str, range(1, 17))) + ","


def ask(page, question, tokens=24, at_once=1):
    """Sends a question with settings for a short, greedy answer."""
    page.locator("#settings summary").click()
    page.fill("#most", str(tokens))
    page.fill("#temperature", "0")
    page.fill("#riders", str(at_once))
    page.locator("#settings summary").click()
    page.fill("#prompt", question)
    page.press("#prompt", "Enter")


def answered(page):
    """Waits for the end of the answer; returns its text."""
    expect(page.locator("#send")).to_be_visible()
    expect(page.locator("#messages li.assistant .note").last).to_be_visible()
    return page.locator("#messages li.assistant .text").last.inner_text()


def until(page, condition):
    """Waits until a JavaScript expression is true. (Playwright's own function evaluates
    a string in the page, which the page's policy forbids.)"""
    page.evaluate(
        f"""async () => {{
          const end_ms = performance.now() + {PATIENCE_MS};
          while (!({condition})) {{
            if (performance.now() > end_ms) throw new Error("never came true");
            await new Promise(requestAnimationFrame);
          }}
        }}"""
    )


def turned(page, least):
    """Waits until the loop has made more than `least` turns."""
    until(page, f"Number(document.getElementById('loop').dataset.turns) > {least}")


def rested(page):
    """Waits until there are no sequences."""
    expect(page.locator("#limit")).to_have_text("The machine rests.")

"""The browser, the server, and a page that must not complain."""

import os

import pytest
from playwright.sync_api import expect, sync_playwright

from serve import TARGET, Serve

SHOTS = TARGET / "screenshots"

# The machine may be busy: these are how long we wait for what must come, not
# how long it takes.
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
    """Opens the page as a person would who has these settings. At the end of the
    test nothing may have gone wrong in it that was not expected."""
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
    """A picture for a person to look at."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", **more)


# A question that is answered with as many tokens as one allows: for tests that
# look on meanwhile, on a machine as fast as may be.
ENDLESS = "Write out the numbers: " + ", ".join(map(str, range(1, 17))) + ","


def ask(page, question, tokens=24, at_once=1):
    """Sends a question with the settings that keep its answer short, and greedy."""
    page.locator("#settings summary").click()
    page.fill("#most", str(tokens))
    page.fill("#temperature", "0")
    page.fill("#riders", str(at_once))
    page.locator("#settings summary").click()
    page.fill("#prompt", question)
    page.press("#prompt", "Enter")


def answered(page):
    """Waits for the end of the answer; its text."""
    expect(page.locator("#send")).to_be_visible()
    expect(page.locator("#messages li.assistant .note").last).to_be_visible()
    return page.locator("#messages li.assistant .text").last.inner_text()


def until(page, condition):
    """Waits until an expression of JavaScript is true. (Playwright's own way
    compiles text in the page, which the page's policy forbids.)"""
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
    """Waits until the loop has gone round further than that."""
    until(page, f"Number(document.getElementById('loop').dataset.turns) > {least}")


def rested(page):
    """Waits until nobody rides."""
    expect(page.locator("#limit")).to_have_text("The machine rests.")

"""Accessibility: keyboard, screen reader, phone."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from conftest import ENDLESS, answered, ask, rested, shoot, turned, until

PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True}


def focused(page):
    return page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")


def test_everything_is_done_with_the_keyboard(page):
    keys = page.keyboard
    keys.press("Tab")
    assert focused(page) == "Skip to the chat"
    keys.press("Enter")
    # The prompt has the focus or is the next stop.
    if focused(page) != "prompt":
        keys.press("Tab")
    assert focused(page) == "prompt"
    keys.type("Say hello,")
    keys.press("Shift+Enter")
    keys.type("please.")
    assert page.input_value("#prompt") == "Say hello,\nplease."
    for stop in ("send", "Settings"):
        keys.press("Tab")
        assert focused(page) == stop
    keys.press("Enter")
    for stop in ("key", "temperature", "most"):
        keys.press("Tab")
        assert focused(page) == stop
    keys.press("Control+A")
    keys.type("400")
    for stop in ("temperature", "key", "Settings", "send"):
        keys.press("Shift+Tab")
        assert focused(page) == stop
    keys.press("Enter")
    # The button was replaced by another, which has the focus.
    expect(page.locator("#stop")).to_be_focused()
    expect(page.locator("#messages li.assistant .text")).not_to_be_empty()
    keys.press("Enter")
    expect(page.locator(".note").last).to_have_text("Stopped.")
    expect(page.locator("#prompt")).to_be_focused()
    rested(page)


def test_the_order_of_focus_is_that_of_the_page(page):
    order = []
    for _ in range(20):
        page.keyboard.press("Tab")
        if focused(page) in order:
            break
        order.append(focused(page))
    assert order[:6] == ["Skip to the chat", "motion", "How to read this", "messages", "prompt", "send"]


def test_a_screen_reader_is_told_once_and_in_sentences(page):
    page.evaluate(
        """() => {
          window.told = [];
          const place = document.getElementById("said");
          new MutationObserver(() => place.textContent && window.told.push(place.textContent))
            .observe(place, {childList: true});
        }"""
    )
    ask(page, "Say hello.", tokens=12)
    text = answered(page)
    until(page, "window.told.length >= 2")
    told = page.evaluate("window.told")
    assert told == ["The model answers.", f"The model said: {told[-1].removeprefix('The model said: ')}"]
    assert text.strip() in told[-1]
    expect(page.locator("#loop-text")).to_contain_text("tokens a second")
    assert "now" in page.locator("#plot-speed").get_attribute("aria-label")


@pytest.mark.parametrize("look", [{"color_scheme": "light"}, {"color_scheme": "dark"}, PHONE])
def test_the_rules_of_accessibility_are_kept(open_page, look):
    # The page's policy would refuse the script of the checker.
    page = open_page(bypass_csp=True, **look)
    expect(page.locator("#connection")).to_have_text("live")
    ask(page, "Say hello.", tokens=4)
    answered(page)
    page.locator("summary").first.click()
    page.locator("#settings summary").click()
    result = Axe().run(page)
    assert result.violations_count == 0, result.generate_report()


def test_it_fits_a_phone(open_page):
    page = open_page(**PHONE)
    expect(page.locator("#connection")).to_have_text("live")
    ask(page, ENDLESS, tokens=300)
    turned(page, 0.3)
    page.evaluate("scrollTo(0, 0)")
    shoot(page, "phone-machine")
    page.get_by_role("link", name="Chat", exact=True).click()
    expect(page.locator("#prompt")).to_be_in_viewport()
    shoot(page, "phone-chat")
    answered(page)
    shoot(page, "phone-all", full_page=True)
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= PHONE["viewport"]["width"]
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, input, textarea, summary")]
          .filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 24)
          .map(e => e.id || e.textContent)"""
    )
    assert small == []

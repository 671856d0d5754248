"""The page reports a restart of the server and a missing key, and then goes on."""

from playwright.sync_api import expect

from conftest import answered, ask, rested, shoot
from serve import Serve

NETWORK = ["Failed to load resource", "net::ERR"]


def test_a_restart_is_survived_and_told(open_page):
    server = Serve()
    try:
        page = open_page(server.url, expect_complaints=NETWORK)
        connection = page.locator("#connection")
        expect(connection).to_have_text("live")
        ask(page, "Tell me a long story.", tokens=900)
        expect(page.locator("#messages li.assistant .text")).not_to_be_empty()

        server.kill()
        expect(connection).to_have_text("connection lost; trying again")
        expect(page.locator(".failed")).to_be_visible()
        expect(page.locator("#limit")).to_have_text("No word from the server.")
        shoot(page, "connection-lost")

        server.start()
        expect(connection).to_have_text("live again: the server was restarted")
        # The conversation is still there, and is sent along.
        with page.expect_request("**/v1/chat/completions") as asked:
            ask(page, "Go on.", tokens=8)
        assert len(asked.value.post_data_json["messages"]) == 3
        assert answered(page).strip()
        rested(page)
        laps = page.locator("#total-laps")
        expect(laps).to_have_text(str(int(server.metrics()["delayline_laps_total"])))
    finally:
        server.stop()


def test_a_key_is_asked_for_and_kept_in_the_tab(open_page):
    server = Serve("--api-key", "open-sesame")
    try:
        page = open_page(server.url, expect_complaints=["401"])
        expect(page.locator("#connection")).to_contain_text("needs an API key")
        page.fill("#key", "wrong-sesame")
        page.press("#key", "Tab")
        page.fill("#prompt", "Hello?")
        page.press("#prompt", "Enter")
        expect(page.locator(".failed")).to_contain_text("does not accept this API key")
        page.fill("#key", "open-sesame")
        page.press("#key", "Tab")
        expect(page.locator("#connection")).to_have_text("live")
        page.get_by_role("button", name="Try again").click()
        page.reload()
        expect(page.locator("#connection")).to_have_text("live")
        assert page.evaluate("localStorage.length") == 0
        assert "sesame" not in page.evaluate("document.cookie")
        # Otherwise the page would log an error at the server's end.
        page.close()
    finally:
        server.stop()

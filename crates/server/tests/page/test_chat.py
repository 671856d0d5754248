"""The chat: streaming, stopping, the kept conversation, and errors."""

import json
import re

import pytest
from playwright.sync_api import expect

from conftest import answered, ask, rested, shoot

# Records the length of the answer after each piece.
WATCH = """() => {
  window.pieces = [];
  new MutationObserver(() => {
    const last = document.querySelector("#messages li.assistant:last-child .text");
    const length = last?.textContent.length ?? 0;
    if (length > (window.pieces.at(-1) ?? 0)) window.pieces.push(length);
  }).observe(document.getElementById("messages"), {childList: true, subtree: true, characterData: true});
}"""


# Keeps a copy of the server's answer.
COPY = """() => {
  const fetched = window.fetch;
  window.fetch = async (...asked) => {
    const response = await fetched(...asked);
    const [one, other] = response.body.tee();
    window.copy = new Response(other).text();
    return new Response(one, response);
  };
}"""


def said(text, finish="stop", thought=None):
    """The body of an answer as the server sends it."""
    delta = {"content": text, **({"reasoning_content": thought} if thought else {})}
    chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
    end["usage"] = {"completion_tokens": 3}
    parts = [json.dumps(part) for part in (chunk, end)] + ["[DONE]"]
    return "".join(f"data: {part}\n\n" for part in parts)


def answer_with(page, **response):
    page.route("**/v1/chat/completions", lambda route: route.fulfill(**response))


def test_an_answer_streams_and_counts_its_tokens(page):
    page.evaluate(WATCH)
    page.evaluate(COPY)
    ask(page, "Count from one to ten.", tokens=20)
    text = answered(page)
    assert text.strip()
    assert len(page.evaluate("window.pieces")) >= 5
    usage = re.findall(r'"completion_tokens":\s*(\d+)', page.evaluate("window.copy"))
    expect(page.locator(".note").last).to_contain_text(f"{usage[-1]} token")
    expect(page.locator("#said")).to_contain_text(text.strip()[:20])


def test_the_conversation_goes_along_and_survives_a_reload(page):
    ask(page, "My name is Ada.", tokens=8)
    first = answered(page)
    page.reload()
    expect(page.locator("#messages li.assistant .text")).to_have_text(first, use_inner_text=True)
    with page.expect_request("**/v1/chat/completions") as asked:
        ask(page, "What is my name?", tokens=8)
    roles = [message["role"] for message in asked.value.post_data_json["messages"]]
    assert roles == ["user", "assistant", "user"]
    answered(page)
    page.click("#fresh")
    expect(page.locator("#messages li:not(.empty)")).to_have_count(0)
    expect(page.locator("#prompt")).to_be_focused()
    with page.expect_request("**/v1/chat/completions") as asked:
        ask(page, "And now?", tokens=4)
    assert len(asked.value.post_data_json["messages"]) == 1
    answered(page)


@pytest.mark.parametrize("way", ["button", "Escape"])
def test_an_answer_can_be_stopped(page, way):
    ask(page, "Tell me a long story about the sea.", tokens=900)
    expect(page.locator("#messages li.assistant .text")).not_to_be_empty()
    if way == "button":
        page.click("#stop")
    else:
        page.keyboard.press("Escape")
    expect(page.locator(".note").last).to_have_text("Stopped.")
    expect(page.locator("#send")).to_be_visible()
    # The slot is free again.
    rested(page)
    assert page.locator("#seats").get_attribute("aria-label").startswith("0 sequences")


def test_a_new_conversation_in_the_middle_of_an_answer_is_new(page):
    ask(page, "Tell me a long story about the sea.", tokens=900)
    expect(page.locator("#messages li.assistant .text")).not_to_be_empty()
    page.click("#fresh")
    rested(page)
    expect(page.locator("#messages li:not(.empty)")).to_have_count(0)
    page.reload()
    expect(page.locator("#messages li:not(.empty)")).to_have_count(0)
    expect(page.locator("#send")).to_be_visible()


def test_several_ride_the_same_laps(page):
    ask(page, "Write a poem.", tokens=96, at_once=4)
    expect(page.locator("#seats i.taken")).to_have_count(4)
    answered(page)
    expect(page.locator(".note").first).to_contain_text("4 requests on the same laps: ")
    assert "refused" not in page.locator(".note").first.inner_text()


def test_what_the_model_says_is_text(page):
    evil = '<img src=x onerror="window.harm=1"><script>window.harm=1</script>**&amp;'
    answer_with(page, content_type="text/event-stream", body=said(evil))
    ask(page, "Be evil.")
    assert answered(page) == evil
    assert page.locator("#messages img, #messages script").count() == 0
    assert page.evaluate("window.harm") is None


def test_what_the_model_thinks_is_shown_apart(page):
    thought = "<b>hm</b>"
    answer_with(page, content_type="text/event-stream", body=said("Yes.", thought=thought))
    ask(page, "Is it?")
    assert answered(page) == "Yes."
    fold = page.locator("#messages details")
    expect(fold.locator(".thought")).to_be_hidden()
    fold.locator("summary").click()
    assert fold.locator(".thought").inner_text() == thought


@pytest.mark.parametrize(
    "response, words",
    [
        (
            {"status": 429, "headers": {"retry-after": "7"}, "json": {"error": {"message": "the queue is full"}}},
            ["the queue is full", "Try again in 7 s"],
        ),
        ({"status": 503, "body": "down"}, ["cannot answer just now"]),
        ({"status": 401, "json": {"error": {"message": "no"}}}, ["API key", "Settings"]),
        ({"status": 400, "json": {"error": {"message": "the prompt is too long"}}}, ["the prompt is too long"]),
        (
            {"content_type": "text/event-stream", "body": 'data: {"error": {"message": "the drive is gone"}}\n\n'},
            ["broke off", "the drive is gone"],
        ),
        ({"content_type": "text/event-stream", "body": ""}, ["ended before the answer"]),
    ],
)
def test_errors_are_told_kindly_and_can_be_tried_again(open_page, response, words):
    page = open_page(expect_complaints=["Failed to load resource"])
    answer_with(page, **response)
    ask(page, "Hello?")
    failed = page.locator(".failed")
    for word in words:
        expect(failed).to_contain_text(word)
    expect(page.locator("#said")).to_have_text(failed.inner_text())
    page.unroute("**/v1/chat/completions")
    answer_with(page, content_type="text/event-stream", body=said("Better."))
    page.get_by_role("button", name="Try again").click()
    assert answered(page) == "Better."
    expect(page.locator(".failed")).to_have_count(0)
    expect(page.locator("#messages li.user")).to_have_count(1)


def test_a_question_without_answer_goes_into_the_next(open_page):
    page = open_page(expect_complaints=["Failed to load resource"])
    answer_with(page, status=503)
    ask(page, "One?")
    expect(page.locator(".failed")).to_be_visible()
    page.unroute("**/v1/chat/completions")
    answer_with(page, content_type="text/event-stream", body=said("Three."))
    with page.expect_request("**/v1/chat/completions") as asked:
        ask(page, "Two?")
    assert asked.value.post_data_json["messages"] == [{"role": "user", "content": "One?\n\nTwo?"}]
    answered(page)


def test_no_answer_at_all_is_an_error_too(open_page):
    page = open_page(expect_complaints=["Failed to load resource"])
    page.route("**/v1/chat/completions", lambda route: route.abort())
    ask(page, "Hello?")
    expect(page.locator(".failed")).to_contain_text("does not answer")
    shoot(page, "chat-error")

"""The picture: it moves while laps run and rests otherwise, and its figures are the
server's."""

import re
import subprocess

import pytest
from playwright.sync_api import expect

from conftest import ENDLESS, answered, ask, rested, shoot, turned
from serve import PROGRAM, Serve

PIXELS = "document.getElementById('loop').toDataURL()"


def turns(page):
    return float(page.locator("#loop").get_attribute("data-turns"))


def number(page, element):
    """A figure of the page as a number."""
    text = page.locator(element).inner_text()
    return float(re.sub(r"[^\d.]", "", text))


def test_the_loop_goes_round_while_laps_run(page):
    rested(page)
    before, pixels = turns(page), page.evaluate(PIXELS)
    ask(page, ENDLESS, tokens=900)
    for step in (0.2, 0.9, 1.4):
        turned(page, before + step)
        now = page.evaluate(PIXELS)
        assert now != pixels
        pixels = now
    expect(page.locator("#limit")).to_have_text(re.compile("sets? the pace|same pace"))
    expect(page.locator("#seats i.taken")).to_have_count(1)
    page.keyboard.press("Escape")
    rested(page)
    expect(page.locator("#loop")).to_have_attribute("data-state", "resting")
    still = turns(page)
    page.evaluate("() => new Promise(done => { let n = 20; const step = () => n-- ? requestAnimationFrame(step) : done(); step(); })")
    assert turns(page) == still


def test_the_figures_are_those_of_the_metrics(page, server):
    ask(page, "Name three colours.", tokens=16)
    answered(page)
    rested(page)
    metrics = server.metrics()
    # The page writes its figures a few times a second.
    expect(page.locator("#total-laps")).to_have_text(
        re.compile(f"^{grouped(metrics['delayline_laps_total'])}$")
    )
    assert number(page, "#total-generated") == metrics["delayline_generated_tokens_total"]
    assert number(page, "#total-prompt") == metrics["delayline_prompt_tokens_total"]
    found = server.event("progress")["totals"]["kv_tokens"]
    assert sum(found.values()) == metrics["delayline_cached_tokens_total"]
    said = f"{grouped(found['memory'])} in memory" if found["memory"] else "0"
    assert page.locator("#total-found").inner_text() == said
    read = page.locator("#total-read").inner_text()
    value, unit = float(read.split()[0].replace("\u202f", "")), read.split()[1]
    scale = 1024 ** ["B", "KiB", "MiB", "GiB", "TiB"].index(unit)
    # Three digits are shown.
    assert value * scale == pytest.approx(metrics["delayline_read_bytes_total"], rel=0.006)


def grouped(value):
    return f"{int(value):,}".replace(",", "\u202f")


def test_the_machine_is_drawn_as_it_is(page, server):
    machine = server.event("machine")
    assert sum(s["bytes"] for s in machine["stretches"] if s["kind"] == "streamed") > 0
    expect(page.locator("#model")).to_have_text(machine["model"])
    said = page.locator("#memory-bar").get_attribute("aria-label")
    assert f"{machine['budget_bytes'] // 2**20} MiB allowed" in said
    seats = page.locator("#seats i")
    expect(seats).to_have_count(min(32, machine["max_sequences"]))


def test_it_holds_still_when_asked_to(open_page):
    page = open_page(reduced_motion="reduce")
    hold = page.get_by_role("button", name="Hold still")
    expect(hold).to_have_attribute("aria-pressed", "true")
    hold.click()
    expect(hold).to_have_attribute("aria-pressed", "false")
    page.emulate_media(reduced_motion="no-preference")
    expect(hold).to_have_attribute("aria-pressed", "false")
    page.emulate_media(reduced_motion="reduce")
    expect(hold).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screenshots(open_page, scheme):
    page = open_page(color_scheme=scheme)
    expect(page.locator("#connection")).to_have_text("live")
    rested(page)
    shoot(page, f"resting-{scheme}")
    ask(page, ENDLESS, tokens=240, at_once=3)
    turned(page, 1.2)
    shoot(page, f"at-work-{scheme}", full_page=True)
    page.keyboard.press("Escape")
    rested(page)


def test_experts_are_shown_as_they_come_and_stay(open_page, tmp_path):
    model = tmp_path / "mixture.gguf"
    subprocess.run([PROGRAM, "synth", "tiny-qwen3moe", model], check=True, capture_output=True)
    # Room for some of the experts.
    server = Serve(model=model, options=["--memory", "56MiB", "--ctx", "256", "--threads", "1"])
    try:
        page = open_page(server.url)
        expect(page.locator("#experts")).to_be_hidden()
        ask(page, "Some words.", tokens=24)
        answered(page)
        rested(page)
        text = page.locator("#experts-text")
        expect(text).to_have_text(re.compile(r"^\d+ % in memory; the lap used \d+ experts?, \d+ of them read$"))
        totals = page.locator("#experts-totals")
        expect(totals).to_have_text(re.compile(r"^\d+ % of all uses found them in memory; .+ read a token"))
        field = page.locator("#experts-field")
        expect(field).to_have_attribute("aria-label", re.compile(r"^Experts of 3 layers: \d+ %"))
        # A token uses four experts of each of three layers; not every short lap is sent.
        used = int(re.search(r"used (\d+)", text.inner_text())[1])
        assert used >= 12
        colours = field.evaluate(
            """(canvas) => {
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                return new Set(new Uint32Array(data.buffer)).size;
            }"""
        )
        assert colours >= 2
        shoot(page, "experts", full_page=True)
        page.close()
    finally:
        server.stop()


def test_a_model_without_experts_shows_none(page):
    ask(page, "Name a colour.", tokens=4)
    answered(page)
    expect(page.locator("#experts")).to_be_hidden()

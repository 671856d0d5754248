"""The pages of `delayline study`, as a person sees them: on a desk, in the dark and on a
telephone. Leaves screenshots for a person in target/screenshots."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[4]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
SHOTS = TARGET / "screenshots"
PROGRAM = TARGET / "release" / "delayline"

# Every command, with what a page of it must say in its first sentence.
COMMANDS = {
    "claims": ["claims"],
    "link": ["link", "hollow-core"],
    "media": ["media", "said-loop", "dram", "hbm3e", "hbf", "ssd", "--hold", "31GB"],
    "find": ["find", "--tokens", "50", "--users", "4", "--accelerator", "b200,h100", "--medium", "own,hbf"],
    "decode": ["decode", "--model", "llama-8b", "--medium", "hbf,own", "--batch", "1,8"],
    "measured": ["measured"],
    "sweep": ["sweep", "--model", "llama-8b", "--medium", "c-l", "--set",
              "c-l.length=100..400km:4", "--out", "sweep.csv"],
    "train": ["train", "--model", "llama-8b"],
    "kv": ["kv", "requests.jsonl", "--size", "1100,2k,4k"],
    "experts": ["experts", "tiny.route.csv", "--share", "0.25,0.5,1"],
    "graph": ["graph", "--rows", "200000", "--draws", "2000", "--batches", "40"],
    "sheets": ["sheets", "c-l", "dram"],
}
# With room for two, each policy finds another number of these again.
REQUESTS = [{"input_length": 512, "hash_ids": [id]} for id in [0, 0, 0, 0, 1, 2, 0, 3, 4, 5, 3]]
# Half of the choices fall on two of eight experts.
ROUTE = ["# model=tiny n_expert=8"] + [
    f"0,1,{step},{layer},0,{step // 2 % 2 if step % 2 == 0 else (step * 5 + layer) % 8},0.5,0,8192"
    for step in range(64)
    for layer in range(3)
]
SCREENS = {
    "desk": {"viewport": {"width": 1200, "height": 900}},
    "dark": {"viewport": {"width": 1200, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
}


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ["CHROMIUM"], args=["--headless", "--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """A page of each command, made once."""
    folder = tmp_path_factory.mktemp("study")
    lines = "".join(json.dumps(request) + "\n" for request in REQUESTS)
    (folder / "requests.jsonl").write_text(lines)
    (folder / "tiny.route.csv").write_text("\n".join(ROUTE) + "\n")
    made = {}

    def page(name):
        if name not in made:
            file = folder / f"{name}.html"
            command = [PROGRAM, "study", *COMMANDS[name], "--html", file, "--as-of", "2026-11"]
            subprocess.run(command, check=True, capture_output=True, cwd=folder)
            made[name] = file.as_uri()
        return made[name]

    return page


@pytest.fixture
def open_page(browser, pages):
    contexts, asked = [], []

    def open_page(name, screen="desk"):
        context = browser.new_context(**SCREENS[screen])
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(pages(name))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert all(url.startswith("file:") for url in asked), asked


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_fits_its_screen_and_is_kept(open_page, name, screen):
    page = open_page(name, screen)
    # What is wider than the screen scrolls by itself; the page does not.
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"the page is {wide} px wider than the screen"
    small = page.evaluate(
        """[...document.querySelectorAll('p, td, th, li')]
            .filter(e => e.offsetParent && parseFloat(getComputedStyle(e).fontSize) < 11).length"""
    )
    assert small == 0, f"{small} texts are smaller than 11 px"
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"study-{name}-{screen}.png", full_page=True)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "sheets"])
def test_the_answer_is_the_first_sentence(open_page, name):
    page = open_page(name)
    first = page.locator("main p").first
    assert first.get_attribute("class") == "answer"
    assert any(letter.isdigit() for letter in first.inner_text())


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "sheets"])
def test_values_are_shown_to_the_mouse_and_to_the_keyboard(open_page, name):
    page = open_page(name)
    point = page.locator(".point").first
    value = point.locator(".value")
    opacity = "element => getComputedStyle(element).opacity"
    assert value.evaluate(opacity) == "0"
    point.focus()
    assert value.evaluate(opacity) == "1"
    assert any(letter.isdigit() for letter in value.text_content())
    assert point.get_attribute("aria-label") == value.text_content()
    page.locator("h1").click()
    point.locator("circle, rect").first.hover(force=True)
    assert value.evaluate(opacity) == "1"


def test_the_best_of_a_column_is_marked_and_rows_are_grouped(open_page):
    page = open_page("media")
    best = page.locator("td.best")
    assert best.count() >= 3
    groups = page.locator("tr.group").all_inner_texts()
    assert groups == ["everything comes by", "what is asked for comes"]


def test_names_stand_at_their_lines(open_page):
    page = open_page("claims")
    boxes = page.locator("svg").first.locator("text.at").evaluate_all(
        "all => all.map(e => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom] })"
    )
    right = page.locator("svg").first.evaluate("e => e.getBoundingClientRect().right")
    assert len(boxes) >= 4
    for index, (left, top, end, bottom) in enumerate(boxes):
        assert end <= right + 1, "a name leaves the plot"
        for other in boxes[:index]:
            apart = bottom <= other[1] + 3 or other[3] <= top + 3
            assert apart or end <= other[0] or other[2] <= left, "two names meet"


def test_mercury_is_told_only_when_it_is_asked_for(open_page, tmp_path):
    def told(*more):
        file = tmp_path / "media.html"
        command = [PROGRAM, "study", "media", *more, "--hold", "1kB", "--feed", "1", "--html", file]
        subprocess.run(command, check=True, capture_output=True)
        return file.read_text()

    assert "mercury" not in told()
    assert "EDSAC, mercury" in told("edsac", "dram")


@pytest.mark.parametrize("name", ["media", "claims"])
def test_nobody_is_locked_out(open_page, name):
    page = open_page(name)
    options = {"runOnly": ["wcag2a", "wcag2aa"], "rules": {"scrollable-region-focusable": {"enabled": False}}}
    results = Axe().run(page, options=options)
    assert results.violations_count == 0, results.generate_report()

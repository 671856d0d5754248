"""Unit tests of the page's scripts, in the browser."""

import pytest

STREAM = (
    'event: lap\r\ndata: {"a": 1}\r\n\r\n'
    ": a comment\n\n"
    "data: one\ndata:two\n\n"
    "event: empty\n\n"
    "id: 7\rdata: three\r\r"
    "data: [DONE]\n\n"
    "data: never ended"
)
EVENTS = [
    {"name": "lap", "data": '{"a": 1}'},
    {"name": "message", "data": "one\ntwo"},
    {"name": "message", "data": "three"},
    {"name": "message", "data": "[DONE]"},
]


def test_events_come_out_the_same_however_they_are_cut(page):
    """Tries all pairs of cuts."""
    wrong = page.evaluate(
        """async ([stream, events]) => {
          const { Parser } = await import("/page/events.js");
          const expected = JSON.stringify(events);
          const wrong = [];
          for (let a = 0; a <= stream.length; a += 1) {
            for (let b = a; b <= stream.length; b += 1) {
              const parser = new Parser();
              const pieces = [stream.slice(0, a), stream.slice(a, b), stream.slice(b)];
              const got = pieces.flatMap((piece) => [...parser.feed(piece)]);
              if (JSON.stringify(got) !== expected) wrong.push([a, b, got]);
            }
          }
          return wrong.slice(0, 3);
        }""",
        [STREAM, EVENTS],
    )
    assert wrong == []


@pytest.mark.parametrize(
    "call, text",
    [
        ("bytes(0)", "0 B"),
        ("bytes(1023)", "1\u202f023 B"),
        ("bytes(33345536)", "31.8 MiB"),
        ("bytes(4.5 * 2 ** 30)", "4.50 GiB"),
        ("rate(1.37e9)", "1.37 GB/s"),
        ("rate(999e6)", "999 MB/s"),
        ("seconds(0.0705)", "70.5 ms"),
        ("seconds(1.5)", "1.50 s"),
        ("seconds(180)", "3 min"),
        ("digits(14.24)", "14.2"),
        ("digits(NaN)", "–"),
        ("whole(1234567)", "1\u202f234\u202f567"),
        ("percent(0.784)", "78 %"),
        ('count(1, "sequence")', "1 sequence"),
        ('count(0, "sequence")', "0 sequences"),
    ],
)
def test_units(page, call, text):
    got = page.evaluate(f"async () => {{ const {{bytes, rate, seconds, digits, whole, percent, count}} = await import('/page/units.js'); return {call}; }}")
    assert got == text


def test_a_short_lap_is_shown_again_slowly_and_whole(page):
    """The replayed lap stands still where the compute waited, for a proportional time, never
    turns back, and ends at its end."""
    steps = page.evaluate(
        """async () => {
          const { Motion } = await import("/page/motion.js");
          const motion = new Motion();
          motion.machine({ stretches: [{ bytes: 100, kind: "streamed" }] });
          const bins = { compute_us: [1000, 1000, 1000, 1000], stall_us: [0, 4000, 0, 2000], arrived_bytes: [9, 0, 5, 0] };
          motion.lap({ duration_s: 0.01, stall_s: 0.006, bins });
          const steps = [];
          for (let ms = 0; ms < 3000; ms += 50) steps.push(motion.at(ms));
          motion.progress({ state: "resting" });
          steps.push(motion.at(3001), motion.at(9000));
          return steps;
        }"""
    )
    *moving, resting, later = steps
    assert {step["slowed"] for step in moving} == {300}
    places = [step["turns"] for step in moving]
    assert places == sorted(places) and places[0] == 0 and 0.95 < places[-1] < 1
    waiting = [step for step in moving if step["state"] == "waiting"]
    assert len(waiting) / len(moving) == pytest.approx(0.6, abs=0.04)
    assert {round(step["turns"], 6) for step in waiting} == {0.25, 0.75}
    assert resting["state"] == later["state"] == "resting"
    assert resting["turns"] == later["turns"] == 1


def test_a_long_lap_is_followed(page):
    turns = page.evaluate(
        """async () => {
          const { Motion } = await import("/page/motion.js");
          const motion = new Motion();
          motion.machine({ stretches: [{ bytes: 1000, kind: "streamed" }] });
          const turns = [];
          let now = performance.now();
          for (let n = 0; n < 45; n += 1) {
            const computed_bytes = (n * 100) % 1000;
            motion.progress({ at_s: n / 10, state: "computing", computed_bytes, arrived_bytes: 0 });
            turns.push(motion.at((now += 100)).turns);
          }
          return turns;
        }"""
    )
    assert turns == sorted(turns)
    assert turns[-1] == pytest.approx(4.4, abs=0.3)


def test_the_history_tells_rates_and_forgets(page):
    """Four laps a second for three minutes, and a rest: two minutes are kept, and nothing
    between two readings of the totals is lost."""
    spans, recent, after = page.evaluate(
        """async () => {
          const { History } = await import("/page/history.js");
          const history = new History();
          history.machine({ device_bytes_per_s: 1e9 });
          const totals = (laps) => ({ laps, lap_s: laps / 4, stall_s: laps / 8, read_bytes: laps * 1e8, prompt_tokens: 0, generated_tokens: laps * 2 });
          for (let n = 0; n <= 720; n += 1) history.lap({ at_s: n / 4, sequences: 2, queued: 0, totals: totals(n) });
          const recent = history.recent(3);
          history.progress({ at_s: 182, state: "resting", queued: 0, totals: totals(721) });
          history.progress({ at_s: 190, state: "computing", queued: 0, totals: totals(721) });
          history.lap({ at_s: 191, sequences: 1, queued: 0, totals: totals(725) });
          return [history.spans, recent, history.spans.slice(-3)];
        }"""
    )
    for before, span in zip(spans, spans[1:]):
        assert span["from_s"] >= before["to_s"]
    assert 60 <= spans[0]["to_s"] <= 70
    assert recent["generated"] / recent["wall_s"] == pytest.approx(8)
    assert recent["stall_s"] / recent["lap_s"] == pytest.approx(0.5)
    assert recent["read_bytes"] / recent["lap_s"] == pytest.approx(4e8)
    assert [(s["from_s"], s["to_s"], s["laps"]) for s in after] == [(180, 182, 1), (182, 190, 0), (190, 191, 4)]


@pytest.mark.parametrize(
    "stall, read, device, medium, longer",
    [
        # If a lap waited, its reads took all of its time, whatever the device rate.
        (0.19, 90, 100, 1, "medium"),
        (0.7, 20, 100, 1, "medium"),
        (0.7, 20, None, 1, "medium"),
        (0.04, 90, 100, 1, "both"),
        # Otherwise it is compute, and its reads were in time.
        (0, 30, 100, 0.3, "compute"),
        (0.01, 98, 100, 0.98, "both"),
        (0, 20, None, 0, "compute"),
    ],
)
def test_the_longer_side_sets_the_pace(page, stall, read, device, medium, longer):
    """Sums of two laps of a second each."""
    got = page.evaluate(
        """async ([stall, read, device]) => {
          const { sides } = await import("/page/figures.js");
          return sides({ laps: 2, lap_s: 2, stall_s: 2 * stall, read_bytes: 2 * read }, device);
        }""",
        [stall, read, device],
    )
    assert got["compute_s"] == pytest.approx(1 - stall)
    assert got["medium_s"] == pytest.approx(medium)
    assert got["longer"] == longer

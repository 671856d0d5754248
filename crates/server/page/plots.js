// Draws the last two minutes as four small plots, and describes each in words for screen
// readers.

import { KEPT_S } from "./history.js";
import { fitted, palette } from "./theme.js";
import { digits, rate, seconds } from "./units.js";

const share = (a, b) => (b > 0 ? a / b : 0);

/** The plots: areas are stacked, lines are drawn over them. */
const PLOTS = [
  {
    id: "plot-speed",
    say: (value) => `${digits(value)} tokens/s`,
    areas: [["compute", (span) => share(span.generated, span.to_s - span.from_s)]],
    lines: [],
  },
  {
    id: "plot-rate",
    say: rate,
    areas: [["stream", (span) => share(span.read_bytes, span.lap_s)]],
    lines: [["text", (span) => span.device ?? 0]],
  },
  {
    id: "plot-lap",
    say: seconds,
    areas: [
      ["compute", (span) => share(span.lap_s - span.stall_s, span.laps)],
      ["stall", (span) => share(span.stall_s, span.laps)],
    ],
    lines: [],
  },
  {
    id: "plot-riders",
    say: digits,
    areas: [
      ["compute", (span) => span.sequences],
      ["stall", (span) => span.queued],
    ],
    lines: [["text", (_, machine) => machine?.max_sequences ?? 0]],
  },
];

export class Plots {
  #history;
  #machine;

  constructor(history) {
    this.#history = history;
  }

  machine(machine) {
    this.#machine = machine;
  }

  draw() {
    const now_s = this.#history.now_s();
    for (const plot of PLOTS) this.#draw(plot, now_s);
  }

  /** Describes each plot in words: its current and its highest value. */
  describe() {
    const last = this.#history.spans.at(-1);
    for (const plot of PLOTS) {
      const totals = this.#history.spans.map((span) => this.#total(plot, span));
      const now = last ? plot.say(totals.at(-1)) : "";
      document.getElementById(`${plot.id}-now`).textContent = now;
      const canvas = document.getElementById(plot.id);
      canvas.dataset.title ??= canvas.getAttribute("aria-label");
      const said = last ? `now ${now}, at most ${plot.say(Math.max(...totals))}` : "nothing yet";
      canvas.setAttribute("aria-label", `${canvas.dataset.title}: ${said}`);
    }
  }

  #total(plot, span) {
    return plot.areas.reduce((all, [, value]) => all + value(span, this.#machine), 0);
  }

  #draw(plot, now_s) {
    const { context, width, height } = fitted(document.getElementById(plot.id));
    if (width === 0) return;
    const colours = palette();
    const spans = this.#history.spans;
    context.clearRect(0, 0, width, height);
    const peaks = spans.map((span) => Math.max(this.#total(plot, span), ...plot.lines.map(([, value]) => value(span, this.#machine))));
    const top = nice(Math.max(0, ...peaks));
    const box = { left: 0, right: width, top: 16, bottom: height - 16 };
    const x = (at_s) => box.right - ((now_s - at_s) / KEPT_S) * (box.right - box.left);
    const y = (value) => box.bottom - (value / top) * (box.bottom - box.top);

    context.save();
    context.beginPath();
    context.rect(box.left, box.top - 2, box.right - box.left, box.bottom - box.top + 4);
    context.clip();
    let floors = spans.map(() => 0);
    for (const [colour, value] of plot.areas) {
      const roofs = spans.map((span, n) => floors[n] + value(span, this.#machine));
      context.fillStyle = colours[colour];
      spans.forEach((span, n) => {
        const [left, right] = [x(span.from_s), x(span.to_s)];
        // Half a pixel wider, so that no gap shows before the next one.
        context.fillRect(left, y(roofs[n]), right - left + 0.5, y(floors[n]) - y(roofs[n]));
      });
      floors = roofs;
    }
    for (const [colour, value] of plot.lines) {
      context.fillStyle = colours[colour];
      for (const span of spans) {
        const at = y(value(span, this.#machine));
        if (at < box.bottom) context.fillRect(x(span.from_s), at - 1, x(span.to_s) - x(span.from_s) + 0.5, 2);
      }
    }
    context.restore();
    axes(context, box, colours, spans.length > 0 ? plot.say(top) : "");
  }
}

function axes(context, box, colours, top) {
  context.fillStyle = colours.line;
  context.fillRect(box.left, box.top, box.right - box.left, 1);
  context.fillRect(box.left, box.bottom, box.right - box.left, 1);
  context.fillStyle = colours.faint;
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "left";
  context.fillText(top, box.left, box.top - 4);
  context.fillText("2 min ago", box.left, box.bottom + 13);
  context.textAlign = "right";
  context.fillText("now", box.right, box.bottom + 13);
}

/** The next round number at or above a value. */
function nice(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= value);
}

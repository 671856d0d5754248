// Draws which experts of a mixture are in memory and which the latest lap used, as a row of
// squares for each layer, and describes it in words.

import { fitted, palette } from "./theme.js";
import { bytes, count, percent } from "./units.js";

/** Colours by the server's digit for an expert: in memory, used, used and read for it. */
const COLOURS = { 1: "resident", 2: "compute", 3: "stall" };

/** The hits, guesses and reads of experts since the server started, in words. */
export function summary(totals) {
  const tokens = totals.prompt_tokens + totals.generated_tokens;
  const said = [
    `${percent(totals.expert_hits / totals.expert_uses)} of all uses found them in memory`,
    `${bytes(totals.read_bytes / tokens)} read a token`,
  ];
  if (totals.guess_read_bytes > 0) {
    said.push(`${percent(totals.guess_wasted_bytes / totals.guess_read_bytes)} of the guessed bytes unused`);
  }
  if (totals.limit_s > 0) {
    said.push(`the drive idle ${percent(Math.max(0, 1 - totals.drive_busy_s / totals.lap_s))} of the time`);
    said.push(`${percent(totals.limit_s / totals.lap_s)} of the limit`);
  }
  return said.join("; ");
}

export class Experts {
  #layers = [];
  #totals;
  #changed = false;

  /** The latest lap. */
  lap({ experts, totals }) {
    if (!experts) return;
    this.#layers = experts;
    this.#totals = totals;
    this.#changed = true;
  }

  repaint() {
    this.#changed = true;
  }

  draw() {
    const row = document.getElementById("experts");
    if (this.#layers.length === 0 || !this.#changed) return;
    this.#changed = false;
    row.hidden = false;
    const canvas = document.getElementById("experts-field");
    const most = Math.max(...this.#layers.map((layer) => layer.length));
    // The height of squares, but never more than the width.
    const height = Math.min(1, this.#layers.length / most) * canvas.clientWidth;
    canvas.style.height = `${Math.max(48, Math.min(height, 360))}px`;
    const { context, width, height: high } = fitted(canvas);
    if (width === 0) return;
    const colours = palette();
    const [w, h] = [width / most, high / this.#layers.length];
    const gap = Math.min(w, h) > 3 ? 1 : 0;
    context.fillStyle = colours.stored;
    context.fillRect(0, 0, width, high);
    this.#layers.forEach((layer, y) => {
      [...layer].forEach((state, x) => {
        const colour = COLOURS[state];
        if (!colour) return;
        context.fillStyle = colours[colour];
        context.fillRect(x * w, y * h, w - gap, h - gap);
      });
    });
    this.#say(canvas);
  }

  #say(canvas) {
    const all = this.#layers.join("");
    const of = (states) => [...all].filter((state) => states.includes(state)).length;
    const [held, used, read] = [of("123"), of("23"), of("3")];
    const text = `${percent(held / all.length)} in memory; the lap used ${count(used, "expert")}, ${read} of them read`;
    document.getElementById("experts-text").textContent = text;
    if (this.#totals?.expert_uses > 0) document.getElementById("experts-totals").textContent = summary(this.#totals);
    canvas.setAttribute("aria-label", `Experts of ${count(this.#layers.length, "layer")}: ${text}`);
  }
}

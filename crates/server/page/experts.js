// Which experts of a mixture are in memory, and which the latest lap used: a field of
// squares, a row for each layer. Beside it the same in words.

import { fitted, palette } from "./theme.js";
import { count, percent } from "./units.js";

/** What the server says of each expert: nothing, in memory, used, or used and read for it. */
const COLOURS = { 1: "resident", 2: "compute", 3: "stall" };

export class Experts {
  #layers = [];
  #changed = false;

  /** The latest lap. */
  lap({ experts }) {
    if (!experts) return;
    this.#layers = experts;
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
    // As high as squares would make it, but never higher than wide.
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
    canvas.setAttribute("aria-label", `Experts of ${count(this.#layers.length, "layer")}: ${text}`);
  }
}

// Draws the ring of weights, which turns past the compute at its top, the window, the reads in
// progress, and inside the ring where the latest lap computed and waited. Knows nothing of the
// network.

import { fitted, palette } from "./theme.js";

const TURN = 2 * Math.PI;
const TOP = -Math.PI / 2;
/** Number of drops when the medium works at its full rate, and the time that one falls. */
const MOST_DROPS = 30;
const FALL_S = 0.7;

export class Loop {
  #canvas;
  #stretches = [];
  #lap_bytes = 0;
  #window_bytes = 0;
  #ring;
  #drops = [];
  #drawn_ms = 0;

  constructor(canvas) {
    this.#canvas = canvas;
  }

  machine(machine) {
    let at = 0;
    this.#stretches = machine.stretches.map(({ bytes, kind }) => {
      const stretch = { from: at, bytes, kind };
      at += bytes;
      return stretch;
    });
    this.#lap_bytes = at;
    this.#window_bytes = machine.window_bytes;
    this.repaint();
  }

  /** Has the ring painted again, after the colours or the size have changed. */
  repaint() {
    this.#ring = undefined;
  }

  /** Draws a moment of [Motion]. `flow` is the stream rate as a fraction of the device rate. */
  draw(moment, record, flow, now_ms) {
    const { context, width, height, ratio } = fitted(this.#canvas);
    if (width === 0) return;
    const shape = measure(width, height);
    context.clearRect(0, 0, width, height);
    context.save();
    context.translate(width / 2, height / 2);
    if (this.#lap_bytes === 0) {
      arc(context, shape.middle, 0, TURN, palette().line, shape.thick);
    } else {
      const turned = -TURN * (moment.turns % 1);
      this.#paintRing(context, shape, ratio, turned);
      this.#paintWindow(context, shape, moment);
      if (record) paintBars(context, shape, record, turned);
      this.#paintDrops(context, shape, moment, flow, now_ms);
    }
    paintHead(context, shape, moment.state);
    context.restore();
    this.#drawn_ms = now_ms;
  }

  /** Draws the stretches: painted once to a canvas of their own, which is rotated. */
  #paintRing(context, shape, ratio, turned) {
    const size = Math.ceil(shape.outer * 2 * ratio) + 2;
    if (this.#ring?.width !== size) {
      this.#ring = document.createElement("canvas");
      this.#ring.width = this.#ring.height = size;
      const own = this.#ring.getContext("2d");
      own.translate(size / 2, size / 2);
      own.scale(ratio, ratio);
      for (const stretch of this.#stretches) {
        this.#arc(own, shape, stretch.from, stretch.from + stretch.bytes, stretch.kind);
      }
    }
    context.save();
    context.rotate(turned);
    context.drawImage(this.#ring, -size / 2 / ratio, -size / 2 / ratio, size / ratio, size / ratio);
    context.restore();
  }

  /** Draws an arc of the ring; the lap's first byte is at the top. */
  #arc(context, shape, from, to, kind) {
    const gap = 0.75 / shape.middle;
    const begin = TOP + (TURN * from) / this.#lap_bytes;
    const end = TOP + (TURN * to) / this.#lap_bytes;
    const [a, b] = end - begin > 3 * gap ? [begin + gap, end - gap] : [begin, end];
    const colours = palette();
    const colour = { resident: colours.resident, streamed: colours.stored, picked: colours.stored, arrived: colours.stream }[kind];
    if (kind === "picked") context.setLineDash([2, 3]);
    arc(context, shape.middle, a, b, colour, shape.thick);
    context.setLineDash([]);
  }

  /** Draws the window: bytes that have arrived are bright, those in progress have an outline. */
  #paintWindow(context, shape, moment) {
    if (this.#window_bytes === 0) return;
    const colours = palette();
    const here = this.#here(moment);
    const arrived = Math.min(moment.arrived, this.#window_bytes);
    const far = this.#along(here, this.#window_bytes, (from, to, passed) => {
      const split = Math.max(0, Math.min(to - from, arrived - passed));
      if (split > 0) this.#arc(context, shape, from - here, from - here + split, "arrived");
      if (moment.state !== "resting" && from + split < to) {
        const gap = 0.75 / shape.middle;
        const angle = (at) => TOP + (TURN * (at - here)) / this.#lap_bytes;
        arc(context, shape.outer - 2, angle(from + split) + gap, angle(to) - gap, colours.stream, 2);
        arc(context, shape.inner + 2, angle(from + split) + gap, angle(to) - gap, colours.stream, 2);
      }
    });
    // A bracket around all of the window.
    const end = TOP + (TURN * far) / this.#lap_bytes;
    const radius = shape.outer + 6;
    arc(context, radius, TOP, end, colours.stream, 2);
    context.beginPath();
    context.strokeStyle = colours.stream;
    context.lineWidth = 2;
    for (const angle of [TOP, end]) {
      context.moveTo((radius + 1) * Math.cos(angle), (radius + 1) * Math.sin(angle));
      context.lineTo((radius - 5) * Math.cos(angle), (radius - 5) * Math.sin(angle));
    }
    context.stroke();
  }

  /** The position of the compute in the lap, in whole bytes, so that sums are exact. */
  #here(moment) {
    return Math.floor((moment.turns % 1) * this.#lap_bytes);
  }

  /**
   * Calls `each` for the streamed stretches from `here` on, until they have `bytes` together
   * or the lap is complete; positions may be beyond the lap's end. Returns the distance from
   * `here` to the end of the last one.
   */
  #along(here, bytes, each) {
    let passed = 0;
    for (const lap of [0, this.#lap_bytes]) {
      for (const stretch of this.#stretches) {
        const from = Math.max(here, stretch.from + lap);
        const to = Math.min(here + this.#lap_bytes, stretch.from + stretch.bytes + lap);
        if (from >= to || stretch.kind !== "streamed") continue;
        const until = Math.min(to, from + bytes - passed);
        each(from, until, passed);
        passed += until - from;
        if (passed >= bytes) return until - here;
      }
    }
    return this.#lap_bytes;
  }

  /** Draws reads as drops that fall from outside into the part of the window in progress. */
  #paintDrops(context, shape, moment, flow, now_ms) {
    const passed_s = Math.min(0.1, (now_ms - this.#drawn_ms) / 1000);
    if (moment.state === "resting") this.#drops = [];
    else if (this.#window_bytes > 0 && this.#drops.length < MOST_DROPS && Math.random() < (passed_s / FALL_S) * MOST_DROPS * Math.min(1, flow)) {
      const near = Math.min(moment.arrived, this.#window_bytes * 0.95);
      const aim = Math.ceil(near + Math.random() * (this.#window_bytes - near));
      this.#drops.push({ angle: TOP + (TURN * this.#along(this.#here(moment), aim, () => {})) / this.#lap_bytes, age_s: 0 });
    }
    this.#drops = this.#drops.filter((drop) => drop.age_s < FALL_S);
    const colour = palette().stream;
    for (const drop of this.#drops) {
      drop.age_s += passed_s;
      const fall = Math.min(1, drop.age_s / FALL_S);
      const radius = shape.rim - (shape.rim - shape.outer) * fall * fall;
      context.globalAlpha = Math.min(1, fall * 3);
      arc(context, radius, drop.angle - 0.009, drop.angle + 0.009, colour, 3 + 3 * fall);
    }
    context.globalAlpha = 1;
  }
}

function measure(width, height) {
  const rim = Math.min(width, height) / 2 - 2;
  const outer = rim * 0.86;
  const thick = rim * 0.13;
  return { rim, outer, thick, middle: outer - thick / 2, inner: outer - thick };
}

function arc(context, radius, from, to, colour, thick) {
  if (to <= from) return;
  context.beginPath();
  context.arc(0, 0, radius, from, to);
  context.strokeStyle = colour;
  context.lineWidth = thick;
  context.stroke();
}

/** Draws a mark for each part of the lap: its compute, and outside of it its wait. */
function paintBars(context, shape, record, turned) {
  const { compute_us, stall_us } = record.bins;
  const parts = compute_us.length;
  const base = shape.inner - 5;
  const longest = shape.rim * 0.15;
  const colours = palette();
  const step = TURN / parts;
  for (let part = 0; part < parts; part += 1) {
    const from = TOP + turned + part * step + step * 0.12;
    const to = from + step * 0.76;
    const stall = (longest * stall_us[part]) / record.peak_us;
    const compute = (longest * compute_us[part]) / record.peak_us;
    // A wait is visible, however short.
    const seen = stall_us[part] > 0 ? Math.max(1.5, stall) : 0;
    arc(context, base - seen / 2, from, to, colours.stall, seen);
    arc(context, base - seen - compute / 2, from, to, colours.compute, compute);
  }
}

/** Draws the compute over the ring's top, as a hand whose colour and label show its state. */
function paintHead(context, shape, state) {
  const colours = palette();
  const colour = { computing: colours.compute, waiting: colours.stall, resting: colours.faint }[state];
  const top = -shape.outer - 5;
  const wide = Math.max(8, shape.rim * 0.05);
  context.fillStyle = colour;
  context.strokeStyle = colours.page;
  context.lineWidth = 2;
  context.beginPath();
  context.moveTo(-wide, top - wide * 1.5);
  context.lineTo(wide, top - wide * 1.5);
  context.lineTo(0, top);
  context.closePath();
  context.stroke();
  context.fill();
  context.fillRect(-1.5, top, 3, shape.thick + 10);
  context.font = `600 ${Math.max(11, shape.rim * 0.06)}px system-ui, sans-serif`;
  context.textAlign = "right";
  context.fillText({ computing: "computes", waiting: "waits", resting: "rests" }[state], -wide * 1.5, top - wide * 0.4);
  if (state === "waiting") {
    // Two bars, as on a pause button.
    context.fillStyle = colours.page;
    context.fillRect(-wide * 0.38, top - wide * 1.3, wide * 0.25, wide * 0.7);
    context.fillRect(wide * 0.13, top - wide * 1.3, wide * 0.25, wide * 0.7);
  }
}

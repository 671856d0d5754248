// Writes the figures beside the loop, and whether the medium or the compute sets the pace.
// Text and bars only.

import { bytes, count, digits, percent, rate, seconds, whole } from "./units.js";

/** Medium and compute whose times differ by less than this fraction of a lap count as equal. */
const ALIKE = 0.05;
/** Seconds over which figures are averaged. */
const OVER_S = 3;

const at = (id) => document.getElementById(id);

function write(id, text) {
  const place = at(id);
  if (place.textContent !== text) place.textContent = text;
}

/** Sets the parts of a bar, as fractions of its length, and its label. */
function bar(id, parts, label) {
  const place = at(id);
  [...place.children].forEach((part, n) => {
    part.style.width = `${Math.max(0, Math.min(1, parts[n] ?? 0)) * 100}%`;
  });
  if (label) place.setAttribute("aria-label", label);
}

/** The medium and its rate. */
function source({ medium, glass, device_bytes_per_s }) {
  if (!glass) return device_bytes_per_s ? `${medium}, up to ${rate(device_bytes_per_s)}` : medium;
  const { length_km, loops, lap_s, rate_bytes_per_s } = glass;
  const fiber = `${digits(length_km)} km of fiber`;
  const all = loops > 1 ? `${whole(loops)} loops of ${fiber}` : `a loop of ${fiber}`;
  return `${all}: light goes round in ${seconds(lap_s)}, ${rate(rate_bytes_per_s)} pass`;
}

/** Fraction of a lap spent waiting above which its bytes took all of the lap; the server uses the same one for its limit of sequences. */
const WAITED = 0.02;

/**
 * The times of a lap's reads and of its compute, which run in parallel, in seconds; the longer
 * one sets the pace. `mean` has sums over laps, `device` is the device rate in bytes per
 * second, if known. If the lap waited, its reads took all of its time; else their time
 * follows from the device rate.
 */
export function sides(mean, device) {
  const [lap_s, stall_s, read_bytes] = [mean.lap_s, mean.stall_s, mean.read_bytes].map((sum) => sum / mean.laps);
  const compute_s = lap_s - stall_s;
  const medium_s = stall_s > WAITED * lap_s ? lap_s : Math.min(lap_s, device ? read_bytes / device : 0);
  const alike = Math.abs(medium_s - compute_s) < ALIKE * lap_s;
  return { lap_s, compute_s, medium_s, longer: alike ? "both" : medium_s > compute_s ? "medium" : "compute" };
}

/** Whether laps read experts or rows once they are chosen. */
const picks = (machine) => machine.stretches.some((stretch) => stretch.kind === "picked");

/** Whether laps read anything. */
const reads = (machine) => machine.window_bytes > 0 || picks(machine);

const PACE = {
  medium: "The medium sets the pace.",
  compute: "The compute sets the pace.",
  both: "Both keep the same pace.",
};

/** The tokens that need not be computed, by where they were found, in words. */
export function found({ memory, flash, shared }) {
  const places = [
    [memory, "in memory"],
    [flash, "on flash"],
    [shared, "shared"],
  ];
  const said = places.filter(([tokens]) => tokens > 0).map(([tokens, where]) => `${whole(tokens)} ${where}`);
  return said.join(", ") || "0";
}

export class Figures {
  #history;
  #machine;
  #state = { resting: true, sequences: 0, queued: 0 };
  #connected = false;

  constructor(history) {
    this.#history = history;
  }

  machine(machine) {
    this.#machine = machine;
    this.#connected = true;
    write("model", machine.model);
    write("version", `Delayline ${machine.version}`);
    document.title = `${machine.model} – Delayline`;
    for (const place of document.querySelectorAll("[data-medium]")) place.textContent = machine.medium;
    write("medium", source(machine));
    for (const key of document.querySelectorAll("[data-streaming]")) key.hidden = machine.window_bytes === 0;
    at("key-picked").hidden = !picks(machine);
    const { budget_bytes, resident_bytes, window_bytes, kv_bytes, buffer_bytes } = machine;
    const parts = [resident_bytes, window_bytes, kv_bytes, buffer_bytes];
    const said = `${bytes(budget_bytes)} allowed: ${bytes(resident_bytes)} weights that stay, ${bytes(window_bytes)} window, ${bytes(kv_bytes)} KV cache, ${bytes(buffer_bytes)} program and buffers`;
    bar("memory-bar", parts.map((part) => part / budget_bytes), said);
    at("memory-bar").title = said;
    write("memory-text", window_bytes > 0 ? `${bytes(budget_bytes)}, window ${bytes(window_bytes)}` : bytes(budget_bytes));
    this.#seats();
  }

  lap(lap) {
    this.#state = { resting: false, sequences: lap.sequences, queued: lap.queued };
  }

  progress(progress) {
    this.#state = { resting: progress.state === "resting", sequences: progress.sequences, queued: progress.queued };
  }

  /** Marks what is shown as outdated, when the server is gone. */
  stop() {
    this.#connected = false;
    this.#state = { resting: true, sequences: 0, queued: 0 };
  }

  /** The stream rate as a fraction of the device rate. */
  flow() {
    const mean = this.#history.recent(OVER_S);
    if (!mean || !this.#machine?.device_bytes_per_s || mean.lap_s === 0) return mean?.read_bytes ? 0.5 : 0;
    return mean.read_bytes / mean.lap_s / this.#machine.device_bytes_per_s;
  }

  /** Updates the page; `slowed` is the factor of the loop. */
  show(slowed) {
    const mean = this.#history.recent(OVER_S);
    this.#hub(mean, slowed);
    this.#seats();
    const totals = this.#history.totals;
    if (totals) {
      write("total-laps", whole(totals.laps));
      write("total-generated", whole(totals.generated_tokens));
      write("total-prompt", whole(totals.prompt_tokens));
      write("total-found", found(totals.kv_tokens));
      write("total-read", bytes(totals.read_bytes));
      write("total-stall", totals.lap_s > 0 ? `${percent(totals.stall_s / totals.lap_s)} of ${seconds(totals.lap_s)}` : "–");
    }
    if (mean && mean.laps > 0) {
      this.#lapBar(mean);
      this.#rateBar(mean);
    }
    this.#verdict(mean);
  }

  #hub(mean, slowed) {
    const { resting } = this.#state;
    write("hub-speed", mean ? digits(mean.generated / mean.wall_s) : "–");
    write("hub-unit", resting && mean ? "tokens/s, last" : "tokens/s");
    write("hub-lap", mean && mean.laps > 0 ? `a lap in ${seconds(mean.lap_s / mean.laps)}` : "");
    // The loop may still replay the last lap after all sequences have ended.
    const rests = resting && this.#connected ? "resting" : "";
    write("hub-slowed", slowed > 1 ? `shown ${whole(slowed)}× slower` : rests);
  }

  #lapBar(mean) {
    const stalled = mean.stall_s / mean.lap_s;
    const lap = seconds(mean.lap_s / mean.laps);
    bar("lap-bar", [1 - stalled, stalled], `A lap of ${lap}: ${percent(1 - stalled)} compute, ${percent(stalled)} waiting`);
    write("lap-text", `${lap}, ${percent(stalled)} of it waiting`);
  }

  #rateBar(mean) {
    if (this.#machine && !reads(this.#machine)) {
      bar("rate-bar", [0], "Nothing is streamed");
      write("rate-text", "nothing is streamed");
      return;
    }
    const streamed = mean.read_bytes / mean.lap_s;
    const can = this.#machine?.device_bytes_per_s;
    const of = can ? ` of ${rate(can)}` : "";
    bar("rate-bar", [can ? streamed / can : 0], `The stream rate is ${rate(streamed)}${of}`);
    write("rate-text", `${rate(streamed)}${of}`);
  }

  #verdict(mean) {
    const [limit, headline, because] = this.#judge(mean);
    at("verdict").dataset.limit = limit;
    write("limit", headline);
    write("because", because);
  }

  #judge(mean) {
    const machine = this.#machine;
    if (!machine) return ["none", "No figures yet.", "The server has not sent anything so far."];
    if (!this.#connected) return ["none", "No word from the server.", "The page shows the last known state, and goes on by itself when the server is back."];
    const medium = machine.medium;
    if (this.#state.resting) {
      return ["none", "The machine rests.", "There are no sequences. Ask something, and the weights go round."];
    }
    if (!mean || mean.lap_s === 0) return ["none", "The weights go round.", "The first laps are under way."];
    if (machine.mapped) {
      return ["none", "llama.cpp has mapped the model.", "It is unknown what its laps wait for. This mode is for comparison."];
    }
    if (!reads(machine)) {
      return ["compute", "The compute sets the pace.", "All weights are in memory; nothing is streamed."];
    }
    const { lap_s, compute_s, medium_s, longer } = sides(mean, machine.device_bytes_per_s);
    const parts = `In a lap of ${seconds(lap_s)}, the bytes from ${medium} take ${seconds(medium_s)} and the compute ${seconds(compute_s)}, in parallel.`;
    return [longer, PACE[longer], `${parts}${longer === "medium" ? this.#freeSeats() : ""}`];
  }

  #freeSeats() {
    const { limit_sequences: limit, max_sequences: most } = this.#machine;
    if (!limit) return "";
    const seats = Math.min(Math.floor(limit), most);
    if (seats <= this.#state.sequences) return "";
    return ` With up to ${count(seats, "sequence")} the lap would take no longer.`;
  }

  #seats() {
    if (!this.#machine) return;
    const { max_sequences: most, limit_sequences: limit, max_queued } = this.#machine;
    const { sequences, queued } = this.#state;
    const place = at("seats");
    // More than 32 slots are drawn as 32.
    const seats = Math.min(most, 32);
    if (place.childElementCount !== seats) {
      place.replaceChildren(...Array.from({ length: seats }, () => document.createElement("i")));
    }
    [...place.children].forEach((seat, n) => {
      const share = (n + 1) * (most / seats);
      seat.className = share <= sequences ? "taken" : limit >= 1 && share > limit ? "costly" : "";
    });
    const free = limit >= 1 && limit < most ? `, free until ${digits(Math.floor(limit))}` : "";
    const waiting = queued > 0 ? `, ${whole(queued)} waiting` : "";
    place.setAttribute("aria-label", `${count(sequences, "sequence")} of ${whole(most)}${waiting} (at most ${whole(max_queued)})${free}`);
    write("riders-text", `${whole(sequences)} of ${whole(most)}${waiting || free}`);
  }

  /** All of it in words, for screen readers. */
  sentence() {
    const mean = this.#history.recent(OVER_S);
    const words = `${at("limit").textContent} ${at("because").textContent}`;
    if (!this.#connected || !mean || mean.laps === 0) return words;
    return `${words} ${digits(mean.generated / mean.wall_s)} tokens a second, ${at("lap-bar").getAttribute("aria-label")}. ${at("rate-bar").getAttribute("aria-label")}. ${at("seats").getAttribute("aria-label")}.`;
  }
}

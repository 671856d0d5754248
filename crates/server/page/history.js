// What happened in the last two minutes, as spans of time between two looks at
// the server's totals. Times are the server's own, in seconds since it started.

/** How long spans are kept, and how short they may be, in seconds. */
export const KEPT_S = 120;
const SHORTEST_S = 0.4;

export class History {
  /** `{from_s, to_s, laps, lap_s, stall_s, read_bytes, generated, sequences, queued, device}`, in order. */
  spans = [];
  /** The last of the server's totals. */
  totals;
  /** When the latest event came, by the server's clock. */
  #last_s = 0;
  #heard_ms = 0;
  #begin;
  #device = null;

  machine(machine) {
    this.#device = machine.device_bytes_per_s;
  }

  /** All begins anew, as after a restart. */
  clear() {
    this.spans = [];
    this.#begin = undefined;
    this.totals = undefined;
  }

  /** A lap has ended. */
  lap(lap) {
    this.#hear(lap.at_s);
    this.totals = lap.totals;
    if (!this.#begin) {
      // Nothing is known of the time before but this lap itself.
      this.#begin = { at_s: lap.at_s, totals: lap.totals };
      return;
    }
    const { at_s, totals } = this.#begin;
    if (lap.at_s - at_s < SHORTEST_S) return;
    this.#push(at_s, lap.at_s, {
      laps: lap.totals.laps - totals.laps,
      lap_s: lap.totals.lap_s - totals.lap_s,
      stall_s: lap.totals.stall_s - totals.stall_s,
      read_bytes: lap.totals.read_bytes - totals.read_bytes,
      generated: lap.totals.generated_tokens - totals.generated_tokens,
      tokens: lap.totals.generated_tokens + lap.totals.prompt_tokens - totals.generated_tokens - totals.prompt_tokens,
      sequences: lap.sequences,
      queued: lap.queued,
    });
    this.#begin = { at_s: lap.at_s, totals: lap.totals };
  }

  /** A lap is under way, or none. */
  progress(progress) {
    this.#hear(progress.at_s);
    const resting = progress.state === "resting";
    if (resting && this.#begin && progress.at_s > this.#begin.at_s) {
      this.#push(this.#begin.at_s, progress.at_s, { laps: 0, lap_s: 0, stall_s: 0, read_bytes: 0, generated: 0, tokens: 0, sequences: 0, queued: progress.queued });
    }
    if ((resting || progress.elapsed_s === 0) && this.totals) this.#begin = { at_s: progress.at_s, totals: this.totals };
  }

  /** The server's clock now, as far as can be told from here. */
  now_s() {
    return this.#heard_ms ? this.#last_s + (performance.now() - this.#heard_ms) / 1000 : 0;
  }

  /** All spans with laps that end in the last `seconds` together, but at least the last one. */
  recent(seconds) {
    const busy = this.spans.filter((span) => span.laps > 0);
    const since = this.now_s() - seconds;
    const chosen = busy.filter((span) => span.to_s >= since);
    if (chosen.length === 0) chosen.push(...busy.slice(-1));
    const sum = (name) => chosen.reduce((all, span) => all + span[name], 0);
    if (chosen.length === 0) return undefined;
    return {
      wall_s: chosen.reduce((all, span) => all + span.to_s - span.from_s, 0),
      laps: sum("laps"),
      lap_s: sum("lap_s"),
      stall_s: sum("stall_s"),
      read_bytes: sum("read_bytes"),
      generated: sum("generated"),
      tokens: sum("tokens"),
    };
  }

  #hear(at_s) {
    this.#last_s = at_s;
    this.#heard_ms = performance.now();
  }

  #push(from_s, to_s, deltas) {
    this.spans.push({ from_s, to_s, device: this.#device, ...deltas });
    const since = to_s - KEPT_S - 5;
    while (this.spans[0].to_s < since) this.spans.shift();
  }
}

// The last two minutes, as spans of time between two readings of the server's totals. Times
// are the server's, in seconds since it started.

/** Time for which spans are kept, and minimum length of a span, in seconds. */
export const KEPT_S = 120;
const SHORTEST_S = 0.4;

export class History {
  /**
   * `{from_s, to_s, laps, lap_s, stall_s, read_bytes, generated,
   * sequences, queued, device}`, in order.
   */
  spans = [];
  /** The latest totals of the server. */
  totals;
  /** The time of the latest event, by the server's clock. */
  #last_s = 0;
  #heard_ms = 0;
  #begin;
  #rested = true;
  #device = null;
  /** Sequences of the latest lap, which may have been the last before a rest. */
  #sequences = 0;

  machine(machine) {
    this.#device = machine.device_bytes_per_s;
  }

  /** Forgets everything, such as after a restart. */
  clear() {
    this.spans = [];
    this.#begin = undefined;
    this.#rested = true;
    this.totals = undefined;
  }

  /** Records the end of a lap. */
  lap(lap) {
    this.#hear(lap.at_s);
    this.#sequences = lap.sequences;
    this.#look(lap, SHORTEST_S);
  }

  /** Records progress. The beginning and the end of a rest also end a span. */
  progress(progress) {
    this.#hear(progress.at_s);
    const rests = progress.state === "resting";
    if (rests || this.#rested) this.#look(progress, 0);
    this.#rested = rests;
  }

  /** Reads the totals, which ends a span if it is long enough. */
  #look({ at_s, totals, queued }, shortest_s) {
    const begin = this.#begin;
    this.totals = totals;
    // Nothing is known of the time before the first reading.
    this.#begin ??= { at_s, totals };
    if (!begin || at_s - begin.at_s < shortest_s) return;
    const since = (name) => totals[name] - begin.totals[name];
    this.spans.push({
      from_s: begin.at_s,
      to_s: at_s,
      laps: since("laps"),
      lap_s: since("lap_s"),
      stall_s: since("stall_s"),
      read_bytes: since("read_bytes"),
      generated: since("generated_tokens"),
      sequences: since("laps") > 0 ? this.#sequences : 0,
      queued,
      device: this.#device,
    });
    while (this.spans[0].to_s < at_s - KEPT_S - 5) this.spans.shift();
    this.#begin = { at_s, totals };
  }

  /** The estimated time of the server's clock. */
  now_s() {
    return this.#heard_ms ? this.#last_s + (performance.now() - this.#heard_ms) / 1000 : 0;
  }

  /** The sums of all spans with laps that end in the last `seconds`, or of the last one. */
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
    };
  }

  #hear(at_s) {
    this.#last_s = at_s;
    this.#heard_ms = performance.now();
  }
}

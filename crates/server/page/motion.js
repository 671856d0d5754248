// Decides which position in the lap the picture shows. Long laps are followed in real
// time; short ones are replayed slowly, from the record of the latest. Draws nothing.

/** Laps shorter than this are shown slowed, in seconds. */
const SHORT_S = 1;
/** Minimum duration of a turn that is shown slowed, in seconds. */
const TURN_S = 3;

/** The record of a lap: the position of the compute over time. */
class Record {
  #moments = [];

  constructor(lap) {
    this.duration_s = Math.max(lap.duration_s, 1e-4);
    const bins = lap.bins ?? even(lap);
    const parts = bins.compute_us.length;
    const total_us = bins.compute_us.reduce((a, b) => a + b, 0) + bins.stall_us.reduce((a, b) => a + b, 0);
    // Time that is in no part, such as sampling, is spread over all of them.
    const scale = total_us > 0 ? this.duration_s / total_us : 0;
    let at_s = 0;
    for (let part = 0; part < parts; part += 1) {
      const stall_s = bins.stall_us[part] * scale;
      if (stall_s > 0) this.#moments.push({ at_s, place: part / parts, stays: true, arrived: 0 });
      at_s += stall_s;
      this.#moments.push({ at_s, place: part / parts, stays: false, arrived: bins.arrived_bytes[part] });
      at_s += bins.compute_us[part] * scale;
    }
    this.#moments.push({ at_s: this.duration_s, place: 1, stays: false, arrived: this.#moments[0].arrived });
    this.peak_us = Math.max(1, ...bins.compute_us.map((us, part) => us + bins.stall_us[part]));
    this.bins = bins;
  }

  /** The position in the lap from 0 to 1, whether the compute waits, and the bytes that had arrived. */
  at(t_s) {
    const next = this.#moments.findIndex((moment) => moment.at_s > t_s);
    if (next <= 0) return { place: next === 0 ? 0 : 1, waits: false, arrived: 0 };
    const [a, b] = [this.#moments[next - 1], this.#moments[next]];
    const share = (t_s - a.at_s) / (b.at_s - a.at_s);
    return {
      place: a.place + (b.place - a.place) * share,
      waits: a.stays,
      arrived: a.arrived + (b.arrived - a.arrived) * share,
    };
  }
}

function even(lap) {
  const part = (seconds) => Array(16).fill(Math.round((seconds * 1e6) / 16));
  return { compute_us: part(lap.duration_s - lap.stall_s), stall_us: part(lap.stall_s), arrived_bytes: Array(16).fill(0) };
}

export class Motion {
  /** The latest lap, for the marks inside the ring. */
  record;
  #lap_bytes = 1;
  #resting = true;
  // The lap that is replayed, since when, and the turns at its beginning.
  #shown;
  #turn = 0;
  // The latest progress of the lap that is followed.
  #followed;
  #drawn = 0;
  #drawn_ms = 0;

  machine(machine) {
    this.#lap_bytes = Math.max(1, machine.stretches.reduce((all, stretch) => all + stretch.bytes, 0));
  }

  /** Stops all motion, when the server is gone or was restarted. */
  stop() {
    this.#resting = true;
    this.#shown = undefined;
    this.#followed = undefined;
  }

  lap(lap) {
    this.record = new Record(lap);
    this.#resting = false;
  }

  progress(progress) {
    this.#resting = progress.state === "resting";
    if (this.#resting) {
      this.#followed = undefined;
      return;
    }
    const place = Math.min(1, progress.computed_bytes / this.#lap_bytes);
    const before = this.#followed;
    // A position before the last one is in the next lap.
    const turn = before ? before.turn + (place < before.place - 0.01 ? 1 : 0) : Math.ceil(this.#drawn - place);
    const moved = before ? turn + place - before.turn - before.place : 0;
    const took_s = before ? progress.at_s - before.at_s : 0;
    this.#followed = {
      turn,
      place,
      at_s: progress.at_s,
      heard_ms: performance.now(),
      per_s: took_s > 0 && took_s < 2 ? Math.max(0, moved / took_s) : 0,
      waits: progress.state === "waiting",
      arrived: progress.arrived_bytes,
    };
  }

  /**
   * What to draw now: `turns` (laps so far, with a fraction), `state`, `arrived` in bytes,
   * and the factor by which time is `slowed`.
   */
  at(now_ms) {
    if (this.record && this.record.duration_s < SHORT_S) return this.#replay(now_ms);
    this.#shown = undefined;
    return this.#follow(now_ms);
  }

  #replay(now_ms) {
    if (!this.#shown) {
      if (this.#resting) return { turns: this.#drawn, state: "resting", arrived: 0, slowed: 1 };
      this.#turn = Math.ceil(this.#drawn - 1e-6);
      this.#shown = { record: this.record, since_ms: now_ms };
    }
    const { record, since_ms } = this.#shown;
    const slowed = Math.max(1, Math.ceil(TURN_S / record.duration_s));
    const t_s = (now_ms - since_ms) / 1000 / slowed;
    if (t_s >= record.duration_s) {
      this.#drawn = this.#turn + 1;
      this.#shown = undefined;
      return this.#replay(now_ms);
    }
    const { place, waits, arrived } = record.at(t_s);
    this.#drawn = this.#turn + place;
    return { turns: this.#drawn, state: waits ? "waiting" : "computing", arrived, slowed };
  }

  #follow(now_ms) {
    const seen = this.#followed;
    if (!seen) return { turns: this.#drawn, state: "resting", arrived: 0, slowed: 1 };
    const age_s = Math.min(0.3, (now_ms - seen.heard_ms) / 1000);
    const ahead = seen.waits ? 0 : seen.per_s * age_s;
    const target = seen.turn + seen.place + ahead;
    // The picture approaches the target with a time constant of 120 ms, and never turns back.
    const share = 1 - Math.exp(-(now_ms - this.#drawn_ms) / 120);
    this.#drawn_ms = now_ms;
    this.#drawn += target - this.#drawn > 1.5 ? target - this.#drawn : Math.max(0, (target - this.#drawn) * share);
    return { turns: this.#drawn, state: seen.waits ? "waiting" : "computing", arrived: seen.arrived, slowed: 1 };
  }
}

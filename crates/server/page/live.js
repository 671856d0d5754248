// The stream of `/live`, which is opened again when it breaks. Dispatches each of its events
// by name, and "connection" with one of the states below.

import { events } from "./events.js";
import { request } from "./api.js";

/** Maximum silence in milliseconds: the server sends something every 10 s. */
const SILENCE_MS = 25_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5_000;

/** The state of the connection after an HTTP error. */
const STATES = { 401: "key", 403: "key", 429: "full", 503: "full" };

export class Live extends EventTarget {
  #started;
  #waking;

  /** Listens for ever. States: `connecting`, `live`, `restarted`, `lost`, `full`, `key`. */
  async run() {
    let wait = FIRST_WAIT_MS;
    for (;;) {
      const heardAny = await this.#listen();
      wait = heardAny ? FIRST_WAIT_MS : Math.min(wait * 2, LONGEST_WAIT_MS);
      await this.#pause(wait);
    }
  }

  /** Connects again at once, such as after the key has changed. */
  wake() {
    this.#waking?.();
  }

  async #listen() {
    const abort = new AbortController();
    let timer;
    let heardAny = false;
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(() => abort.abort(), SILENCE_MS);
    };
    this.#waking = () => abort.abort();
    try {
      heard();
      const response = await request("/live", { signal: abort.signal });
      for await (const { name, data } of events(response, heard)) {
        heardAny = true;
        this.#take(name, JSON.parse(data));
      }
      this.#tell("lost");
    } catch (error) {
      this.#tell(STATES[error.status] ?? "lost");
    } finally {
      clearTimeout(timer);
    }
    return heardAny;
  }

  #take(name, detail) {
    if (name === "machine") {
      const restarted = this.#started !== undefined && this.#started !== detail.started_unix_ms;
      this.#started = detail.started_unix_ms;
      this.#tell(restarted ? "restarted" : "live");
    }
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #tell(state) {
    this.dispatchEvent(new CustomEvent("connection", { detail: state }));
  }

  #pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#waking = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

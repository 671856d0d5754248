// Server-sent events over fetch, for the chat and `/live`: the browser's own EventSource can
// send neither a key nor a POST.

/**
 * The events of a response, as `{name, data}`. `heard` is called whenever bytes arrive,
 * comments included, as a sign of life.
 */
export async function* events(response, heard = () => {}) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new Parser();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      yield* parser.feed(value);
    }
  } finally {
    // Ends the request if the caller stops early.
    reader.cancel().catch(() => {});
  }
}

/** Parses pieces of text to events. */
export class Parser {
  #rest = "";
  #name = "";
  #data = [];

  /** The events that a further piece completes. */
  *feed(text) {
    this.#rest += text;
    for (;;) {
      const end = this.#rest.search(/[\r\n]/);
      // A carriage return at the very end may be followed by a line feed.
      if (end < 0 || (this.#rest[end] === "\r" && end === this.#rest.length - 1)) return;
      const line = this.#rest.slice(0, end);
      this.#rest = this.#rest.slice(end + (this.#rest.startsWith("\r\n", end) ? 2 : 1));
      const event = this.#line(line);
      if (event) yield event;
    }
  }

  #line(line) {
    if (line === "") {
      const event = this.#data.length > 0 && { name: this.#name || "message", data: this.#data.join("\n") };
      this.#name = "";
      this.#data = [];
      return event;
    }
    const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (field === "event") this.#name = value;
    if (field === "data") this.#data.push(value);
    return undefined;
  }
}

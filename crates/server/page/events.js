// Server-sent events over fetch. The browser's own EventSource can neither send
// a key nor post, so both the chat and the live picture read their streams here.

/**
 * The events of a response, as `{name, data}`. `heard` is called whenever bytes
 * come, comments included: it tells that the server lives.
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
    // Whoever stops listening early ends the request with it.
    reader.cancel().catch(() => {});
  }
}

/** From pieces of text to events. */
export class Parser {
  #rest = "";
  #name = "";
  #data = [];

  /** The events that a further piece completes. */
  *feed(text) {
    this.#rest += text;
    for (;;) {
      const end = this.#rest.search(/[\r\n]/);
      // A carriage return at the very end may be half of a line's end.
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

// The chat: a conversation kept in this tab, an answer that is streamed and can be stopped,
// and messages for people when something fails. The model's output is inserted as text, never
// as markup.

import { announce } from "./announce.js";
import { Refused, request } from "./api.js";
import { events } from "./events.js";
import { count, digits, seconds } from "./units.js";

const KEPT = "delayline-conversation";
/** A browser opens at most six connections to a server, and `/live` needs one. */
const MOST_RIDERS = 5;
const at = (id) => document.getElementById(id);

/** A message on the page. */
class Bubble {
  constructor(role, text = "") {
    this.item = document.createElement("li");
    this.item.className = role;
    const who = document.createElement("span");
    who.className = "who";
    who.textContent = role === "user" ? "You" : "Model";
    this.body = document.createElement("p");
    this.body.className = "text";
    this.body.textContent = text;
    this.item.append(who, this.body);
    at("empty").hidden = true;
    at("messages").append(this.item);
    follow(true);
  }

  /** Adds to the text. */
  add(text) {
    this.body.append(text);
    follow();
  }

  /** Adds to the thoughts, above the text. */
  think(text) {
    if (!this.thought) {
      const fold = document.createElement("details");
      fold.className = "note";
      const title = document.createElement("summary");
      title.textContent = "What the model thought";
      this.thought = document.createElement("p");
      this.thought.className = "thought";
      fold.append(title, this.thought);
      this.item.insertBefore(fold, this.body);
    }
    this.thought.append(text);
    follow();
  }

  /** Adds a line below the text. */
  note(text, kind = "note") {
    const note = document.createElement("p");
    note.className = kind;
    note.textContent = text;
    this.item.append(note);
    follow();
    return note;
  }
}

/** Scrolls to the end, unless the user has scrolled up. */
function follow(always = false) {
  const list = at("messages");
  const below = list.scrollHeight - list.scrollTop - list.clientHeight;
  if (always || below < 80) list.scrollTop = list.scrollHeight;
}

export class Chat {
  /** The model's name, or "" until it is known. */
  model = "";
  #messages = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
  #abort;

  constructor() {
    for (const { role, content } of this.#messages) new Bubble(role, content);
    this.#busy(false);
    at("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    at("prompt").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.#send();
      }
    });
    at("stop").addEventListener("click", () => this.#abort?.abort());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#abort?.abort();
    });
    at("fresh").addEventListener("click", () => this.#fresh());
  }

  #fresh() {
    this.#abort?.abort();
    this.#abort = undefined;
    this.#messages = [];
    this.#keep();
    for (const item of at("messages").querySelectorAll("li:not(.empty)")) item.remove();
    at("empty").hidden = false;
    this.#busy(false);
    at("prompt").focus();
    announce("A new conversation.");
  }

  async #send() {
    const text = at("prompt").value.trim();
    if (this.#abort || !text) return;
    at("prompt").value = "";
    this.#messages.push({ role: "user", content: text });
    new Bubble("user", text);
    await this.#answer();
  }

  /** Requests an answer to the current conversation. */
  async #answer() {
    const messages = alternating(this.#messages);
    const abort = new AbortController();
    this.#abort = abort;
    this.#busy(true);
    announce("The model answers.");
    const riders = Math.max(1, Math.min(MOST_RIDERS, Math.round(at("riders").valueAsNumber) || 1));
    const bubble = new Bubble("assistant");
    const first = this.#ride(messages, abort, bubble);
    const others = Array.from({ length: riders - 1 }, () => this.#ride(messages, abort));
    const [answer, ...ends] = await Promise.all([first, ...others]);
    // A new conversation may have begun since.
    if (this.#abort !== abort) return;
    this.#abort = undefined;
    if (answer.text) this.#messages.push({ role: "assistant", content: answer.text });
    this.#keep();
    this.#close(bubble, answer, ends);
    this.#busy(false);
  }

  /** Writes the notes below a finished answer. */
  #close(bubble, answer, others) {
    const { text, error, finish } = answer;
    const together = others.length > 0 ? [answer, ...others] : [];
    const whole = together.filter((one) => !one.error);
    if (together.length > 0) {
      const tokens = whole.reduce((all, one) => all + one.tokens, 0);
      const took_s = Math.max(...together.map((one) => one.took_s));
      const failed = together.length - whole.length;
      const but = failed > 0 ? ` ${count(failed, "request was", "requests were")} refused.` : "";
      bubble.note(`${count(together.length, "request")} on the same laps: ${count(tokens, "token")} in ${seconds(took_s)}, ${digits(tokens / took_s)} tokens/s all together.${but}`);
    }
    if (error) {
      bubble.note(error, "failed");
      this.#offerAgain(bubble, text === "");
      announce(error);
    } else {
      bubble.note(summary(answer));
      announce(finish === "stopped" ? "Stopped." : `The model said: ${text}`);
    }
  }

  /** Adds a button to ask again. `unsaid` is whether the answer has no text. */
  #offerAgain(bubble, unsaid) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = "Try again";
    button.addEventListener("click", () => {
      if (this.#abort || bubble.item !== at("messages").lastElementChild) return;
      if (!unsaid) this.#messages.pop();
      bubble.item.remove();
      at("prompt").focus();
      this.#answer();
    });
    bubble.item.append(button);
    follow();
  }

  /** Sends a request and writes its answer into the bubble, if there is one. Never throws. */
  async #ride(messages, abort, bubble) {
    const answer = { text: "", tokens: 0, finish: "", error: "", first_s: 0, took_s: 0 };
    const start = performance.now();
    const since_s = () => (performance.now() - start) / 1000;
    try {
      const body = await this.#body(messages);
      const response = await request("/v1/chat/completions", { body, signal: abort.signal });
      for await (const { data } of events(response)) {
        if (data === "[DONE]") {
          answer.done = true;
          break;
        }
        const chunk = JSON.parse(data);
        if (chunk.error) throw new Refused(`The answer broke off: ${chunk.error.message}`);
        const choice = chunk.choices?.[0];
        const thought = choice?.delta?.reasoning_content ?? "";
        if (thought) {
          answer.first_s ||= since_s();
          bubble?.think(thought);
        }
        const text = choice?.delta?.content ?? "";
        if (text) {
          answer.first_s ||= since_s();
          answer.text += text;
          bubble?.add(text);
        }
        answer.finish = choice?.finish_reason ?? answer.finish;
        answer.tokens = chunk.usage?.completion_tokens ?? answer.tokens;
      }
      if (!answer.done) throw new Refused("The connection ended before the answer did.");
    } catch (error) {
      if (error.name === "AbortError") answer.finish = "stopped";
      else if (error instanceof Refused) answer.error = error.message;
      else answer.error = "The connection to the server broke off.";
    }
    answer.took_s = since_s();
    return answer;
  }

  async #body(messages) {
    if (!this.model) {
      const models = await (await request("/v1/models")).json();
      this.model = models.data?.[0]?.id ?? "";
    }
    const temperature = at("temperature").valueAsNumber;
    const most = Math.round(at("most").valueAsNumber);
    return {
      model: this.model,
      messages,
      stream: true,
      ...(temperature >= 0 && { temperature }),
      ...(most > 0 && { max_tokens: most }),
    };
  }

  #busy(busy) {
    const focused = [at("send"), at("stop")].includes(document.activeElement);
    at("send").hidden = busy;
    at("stop").hidden = !busy;
    at("fresh").disabled = at("messages").childElementCount <= 1;
    at("messages").setAttribute("aria-busy", String(busy));
    // The focused button is hidden, so the focus moves to the next useful element.
    if (focused) (busy ? at("stop") : at("prompt")).focus();
  }

  #keep() {
    sessionStorage.setItem(KEPT, JSON.stringify(this.#messages));
  }
}

/** Joins consecutive messages of one role, since models expect alternating turns. */
function alternating(messages) {
  const turns = [];
  for (const { role, content } of messages) {
    if (turns.at(-1)?.role === role) turns.at(-1).content += `\n\n${content}`;
    else turns.push({ role, content });
  }
  return turns;
}

function summary({ tokens, took_s, first_s, finish }) {
  if (finish === "stopped") return "Stopped.";
  const speed = tokens > 1 && took_s > first_s ? `, ${digits((tokens - 1) / (took_s - first_s))} tokens/s` : "";
  const cut = finish === "length" ? " It has the maximum length, which can be changed under Settings." : "";
  return `${count(tokens, "token")}${speed}, the first after ${seconds(first_s)}.${cut}`;
}

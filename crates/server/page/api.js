// Requests to the server this page came from: the key, and what went wrong in
// words for a person. Knows neither the chat nor the picture.

const KEY = "delayline-key";

/** The key, kept in this tab only. */
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** A request that did not work; the message is for a person. */
export class Refused extends Error {
  /** `status` is HTTP's, or 0 if there was no answer. */
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** A response that is fine. Throws [Refused], or the abort's own error. */
export async function request(path, { body, signal } = {}) {
  const headers = {};
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  if (body) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: body ? "POST" : "GET",
      headers,
      body: body && JSON.stringify(body),
      signal,
      cache: "no-store",
      credentials: "omit",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer. It may be starting again: try once more in a moment.");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  let said = "";
  try {
    said = (await response.json()).error?.message ?? "";
  } catch {
    // No JSON: the status has to do.
  }
  const { status } = response;
  if (status === 401 || status === 403) {
    return new Refused(
      key.get()
        ? "The server does not accept this API key. Correct it under Settings."
        : "This server wants an API key. Enter it under Settings.",
      status,
    );
  }
  if (status === 429 || status === 503) {
    const wait = Number(response.headers.get("retry-after"));
    const when = wait > 0 ? `Try again in ${wait} s.` : "Try again in a moment.";
    const why = status === 429 ? "All places and the queue are taken." : "The server cannot answer just now.";
    return new Refused(`${said || why} ${when}`, status);
  }
  return new Refused(said || `The server refused this (status ${status}).`, status);
}

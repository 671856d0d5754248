// Requests to the server of this page: adds the key, and makes messages for people of errors.
// Knows neither the chat nor the picture.

const KEY = "delayline-key";

/** The key, kept in this tab only. */
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** A failed request; the message is for people. */
export class Refused extends Error {
  /** `status` is the HTTP status, or 0 if there was no answer. */
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** Returns a successful response. Throws [Refused], or the error of an abort. */
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
    throw new Refused("The server does not answer. It may be restarting: try again in a moment.");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  let said = "";
  try {
    said = (await response.json()).error?.message ?? "";
  } catch {
    // Without JSON, the message depends on the status alone.
  }
  const { status } = response;
  if (status === 401 || status === 403) {
    return new Refused(
      key.get()
        ? "The server does not accept this API key. Correct it under Settings."
        : "This server needs an API key. Enter it under Settings.",
      status,
    );
  }
  if (status === 429 || status === 503) {
    const wait = Number(response.headers.get("retry-after"));
    const when = wait > 0 ? `Try again in ${wait} s.` : "Try again in a moment.";
    const why = status === 429 ? "The server and its queue are full." : "The server cannot answer just now.";
    return new Refused(`${said || why} ${when}`, status);
  }
  return new Refused(said || `The server refused this (status ${status}).`, status);
}

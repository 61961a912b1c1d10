// Calls the server.

import { ROOT } from "./addresses.js";
import { parse, stringify } from "./json.js";
import { drop, key } from "./key.js";
import { sentence } from "./problems.js";

// Two dates of answers that differ by more than this come from a clock that was set.
const CLOCK_SET_MS = 5000;

export const headers = () => (key() ? { Authorization: `Key ${key()}` } : {});

// A refusal of the server: `status`, `message` for people, and fal's list of problems in `detail`, if there is one.
export class Refused extends Error {
  constructor(status, body) {
    const detail = Array.isArray(body?.detail) ? body.detail : [];
    super(
      detail.length ? detail.map((one) => sentence(one)).join(" ") : String(body?.detail ?? `The server answered ${status}`),
    );
    Object.assign(this, { status, detail });
  }
}

// The server does not answer, or something else answers in its place, such as a proxy.
export class Unreachable extends Error {
  constructor(cause) {
    super("The server cannot be reached.", { cause });
  }
}

let unlock = async () => {
  throw new Refused(401, { detail: "This needs a key." });
};
// Sets the function that asks the person for a key, with the reason for it. The refused call is then repeated.
export const setDoor = (ask) => {
  unlock = ask;
};

let aheadMs = null;
// Returns the time of the server's clock in seconds, as its answers tell it.
export const serverTime = () => (Date.now() + (aheadMs ?? 0)) / 1000;

// Learns the server's clock from the date of an answer, which is up to 1 s late. So the latest of them is right, unless a
// clock was set meanwhile. An answer that the browser may keep has the date on which it was first sent.
function learnTime(answered) {
  const date = Date.parse(answered.get("date") ?? "");
  if (!date || /max-age/.test(answered.get("cache-control"))) return;
  const found = date - Date.now();
  aheadMs = aheadMs !== null && Math.abs(found - aheadMs) < CLOCK_SET_MS ? Math.max(found, aheadMs) : found;
}

// Returns what a promise of a response, or of its body, yields. If it fails because the server cannot be reached (a
// TypeError) or the body is no JSON (a SyntaxError), throws Unreachable instead. A fault of a page is a TypeError too, so only
// these promises are passed here.
const received = (promise) =>
  promise.catch((error) => {
    throw error instanceof TypeError || error instanceof SyntaxError ? new Unreachable(error) : error;
  });

// Returns the server's response. Asks for a key if the server wants one. Throws Refused for any other error, and
// Unreachable without an answer.
export async function call(path, { json, ...options } = {}) {
  for (;;) {
    const sent = key();
    const sending = {
      ...options,
      ...(json === undefined ? {} : { method: options.method ?? "POST", body: stringify(json) }),
      headers: {
        ...headers(),
        ...(json === undefined ? {} : { "Content-Type": "application/json" }),
        ...options.headers,
      },
    };
    const response = await received(fetch(ROOT + path, sending));
    learnTime(response.headers);
    if (response.ok) return response;
    const body = await response.json().catch(() => null);
    if (response.status !== 401) throw new Refused(response.status, body);
    if (sent === key()) {
      drop(sent);
      if (!key()) await unlock(sent ? "This key does not open the server." : "");
    }
  }
}

export const callJson = async (path, options) => received((await call(path, options)).text().then(parse));

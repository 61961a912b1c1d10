// Submits a request and follows it to its end, through the queue that all clients use.

import { entryPath, queuePath } from "./addresses.js";
import { Refused, Unreachable, call, callJson } from "./api.js";

const POLL_MS = 500;
const MOST_PAUSE_MS = 10_000;

// Submits a request. Returns its id.
export const submit = async (endpoint, request) => (await callJson(`queue/${endpoint}`, { json: request })).request_id;

// Cancels a request. It is no error that the request has ended already.
export const cancel = (endpoint, id) => call(`${queuePath(endpoint, id)}/cancel`, { method: "PUT" }).catch((error) => {
    if (error.status !== 400) throw error;
  });

// Yields the status of a request again and again until it has ended. Goes on after an outage of the server.
export async function* statuses(endpoint, id, signal) {
  let pause = POLL_MS;
  while (!signal.aborted) {
    try {
      const status = await callJson(`${queuePath(endpoint, id)}/status?logs=1`, { signal });
      pause = POLL_MS;
      yield status;
      if (status.status === "COMPLETED") return;
    } catch (error) {
      if (!isOutage(error) || signal.aborted) throw error;
      yield { status: "UNREACHABLE" };
      pause = Math.min(2 * pause, MOST_PAUSE_MS);
    }
    await sleep(pause);
  }
}

// Returns {made, entry, error}: the result of an ended request, and its entry. `made` is null and `error` is set if the
// request failed, or if its result was deleted or lost.
export async function outcome(endpoint, id, signal) {
  for (;;) {
    try {
      const entry = await callJson(entryPath(id), { signal });
      const [made, error] = await callJson(queuePath(endpoint, id), { signal }).then(
        (one) => [one, null],
        (one) => [null, one],
      );
      if (entry.state === "done" && error && isOutage(error)) throw error;
      return { made, entry, error };
    } catch (error) {
      if (!isOutage(error) || signal.aborted) throw error;
      await sleep(POLL_MS);
    }
  }
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Whether an error means that the server, or a proxy before it, cannot answer now. Status 500 means that it never will,
// such as for a lost file.
const isOutage = (error) =>
  error instanceof Unreachable || (error instanceof Refused && (error.status > 500 || error.status === 429));

// Returns an input without the data URIs, which the server cuts: a request cannot be repeated with them.
export function withoutCut(input) {
  if (Array.isArray(input)) return input.map(withoutCut).filter((one) => one?.path !== null);
  if (!input || typeof input !== "object") return input;
  const isCut = (value) => typeof value === "string" && value.startsWith("data:");
  const names = Object.entries(input).map(([name, value]) => [name, isCut(value) ? null : withoutCut(value)]);
  return Object.fromEntries(names.filter(([name, value]) => value !== null || name === "path"));
}

// Submits a request and follows it to its end, through the queue that all clients use.

import { Refused, call, callJson } from "./api.js";

const POLL_MS = 500;

// Submits a request. Returns its id.
export const submit = async (endpoint, request) => (await callJson(`queue/${endpoint}`, { json: request })).request_id;

export const cancel = (endpoint, id) =>
  call(`queue/${endpoint}/requests/${id}/cancel`, { method: "PUT" }).catch(() => {});

// Yields the status of a request again and again until it has ended. Goes on after an outage of the server.
export async function* statuses(endpoint, id, signal) {
  while (!signal.aborted) {
    try {
      const status = await callJson(`queue/${endpoint}/requests/${id}/status?logs=1`, { signal });
      yield status;
      if (status.status === "COMPLETED") return;
    } catch (error) {
      if (error instanceof Refused || signal.aborted) throw error;
      yield { status: "UNREACHABLE" };
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

// Returns the result of an ended request. Throws Refused if it failed.
export const result = (endpoint, id) => callJson(`queue/${endpoint}/requests/${id}`);

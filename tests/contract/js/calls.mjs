// Calls fal's client, which reaches the server with one of the recipes.
//
// Each line of standard input is one call: a JSON array of the name of a function below and its arguments. The result is
// printed as one line of JSON. Each call has a client of its own.
//
// The arguments include the recipe as `way` (proxy, middleware, fetch, none) and the server's URL as `base`.

import { createHash } from "node:crypto";
import { openAsBlob } from "node:fs";
import { createInterface } from "node:readline";
import { createFalClient } from "@fal-ai/client";

/** The client's pause in ms between two looks at a request; its own default is half a second. */
const pollInterval = 50;

const SERVICES = { "fal.run": "run", "queue.fal.run": "queue", "rest.fal.ai": "rest", "v3.fal.media": "cdn" };

function rewritten(base, address) {
  const url = new URL(address);
  const service = SERVICES[url.hostname];
  return service ? `${base}/${service}${url.pathname}${url.search}` : address;
}

function clientFor({ way, base, credentials = "any:thing", retry }) {
  const common = { credentials, ...(retry ? { retry } : {}) };
  switch (way) {
    case "proxy":
      return createFalClient({ ...common, proxyUrl: { url: `${base}/api/fal/proxy`, when: "always" } });
    case "middleware":
      return createFalClient({
        ...common,
        requestMiddleware: async (request) => ({ ...request, url: rewritten(base, request.url) }),
      });
    case "fetch":
      return createFalClient({ ...common, fetch: (url, init) => fetch(rewritten(base, String(url)), init) });
    default:
      return createFalClient(common);
  }
}

/** Returns the value of a call, or the properties of the error that it raised. */
async function outcomeOf(work) {
  try {
    return { value: await work() };
  } catch (error) {
    return {
      error: error.constructor.name,
      message: error.message,
      status: error.status,
      body: error.body,
      requestId: error.requestId,
      fieldErrors: error.fieldErrors,
      isUserTimeout: error.isUserTimeout,
    };
  }
}

const calls = {
  run: (fal, { id, input, options }) => outcomeOf(() => fal.run(id, { input, ...options })),

  submitted: (fal, { id, input, options }) => fal.queue.submit(id, { input, ...options }),

  async byHand(fal, { id, input }) {
    const { request_id: requestId, ...submitted } = await fal.queue.submit(id, { input });
    const seen = [];
    let status;
    do {
      status = await fal.queue.status(id, { requestId, logs: true });
      seen.push(status.status);
      await new Promise((done) => setTimeout(done, pollInterval));
    } while (status.status !== "COMPLETED");
    const silent = await fal.queue.status(id, { requestId, logs: false });
    return { submitted, status, silent, seen, result: await fal.queue.result(id, { requestId }) };
  },

  async subscribed(fal, { id, input, options }) {
    const statuses = [];
    let messages = [];
    let enqueued;
    const outcome = await outcomeOf(() =>
      fal.subscribe(id, {
        input,
        logs: true,
        pollInterval,
        onEnqueue: (requestId) => (enqueued = requestId),
        onQueueUpdate: (update) => {
          statuses.push(update.status);
          if (update.logs) messages = update.logs.map((log) => log.message);
        },
        ...options,
      }),
    );
    return { ...outcome, statuses, messages, enqueued };
  },

  async streamedStatus(fal, { id, input }) {
    const { request_id: requestId } = await fal.queue.submit(id, { input });
    const stream = await fal.queue.streamStatus(id, { requestId, logs: true });
    const events = [];
    for await (const event of stream) events.push(event);
    return { events, last: await stream.done() };
  },

  async cancelled(fal, { id, input, whenRunning }) {
    const { request_id: requestId } = await fal.queue.submit(id, { input });
    while (whenRunning && (await fal.queue.status(id, { requestId })).status === "IN_QUEUE");
    const first = await outcomeOf(() => fal.queue.cancel(id, { requestId }));
    const end = await outcomeOf(() => fal.queue.subscribeToStatus(id, { requestId, pollInterval }));
    return {
      first,
      end,
      result: await outcomeOf(() => fal.queue.result(id, { requestId })),
      again: await outcomeOf(() => fal.queue.cancel(id, { requestId })),
    };
  },

  unknown: (fal, { id, requestId }) => outcomeOf(() => fal.queue.result(id, { requestId })),

  async streamed(fal, { id, input, options }) {
    const events = [];
    const outcome = await outcomeOf(async () => {
      const stream = await fal.stream(id, { input, ...options });
      const done = stream.done();
      done.catch(() => {}); // Node must not report it as unhandled before it is awaited below.
      for await (const event of stream) events.push(event);
      return done;
    });
    return { ...outcome, events };
  },

  async uploaded(fal, { path, type, options }) {
    const blob = await openAsBlob(path, { type });
    const file = Object.assign(blob, { name: "large.mp4" });
    return fal.storage.upload(file, options);
  },

  uploadedText: (fal, { text, name, type }) => fal.storage.upload(new File([text], name, { type })),

  uploadedUntyped: (fal, { text }) => fal.storage.upload(new Blob([text])),

  async extended(fal, { id, path, input }) {
    const blob = await openAsBlob(path, { type: "video/mp4" });
    const video = "video" in input ? { video: { ...input.video, video_url: blob } } : { video_url: blob };
    const messages = new Set();
    const onQueueUpdate = ({ logs }) => logs?.forEach((log) => messages.add(log.message));
    const result = await fal.subscribe(id, { input: { ...input, ...video }, mode: "streaming", logs: true, onQueueUpdate });
    return { ...result, messages: [...messages] };
  },

  async withBlob(fal, { id, path, prompt }) {
    const blob = await openAsBlob(path, { type: "video/mp4" });
    const result = await fal.subscribe(id, { input: { prompt, video: { video_url: blob } }, pollInterval });
    const bytes = await (await fetch(result.data.video.url)).arrayBuffer();
    return { ...result, sha256: createHash("sha256").update(Buffer.from(bytes)).digest("hex") };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, args] = JSON.parse(line);
  console.log(JSON.stringify((await calls[name](clientFor(args), args)) ?? null));
}
process.exit(0);

// Four requests beside each other, to pick one of their results.

import { el, toast } from "./dom.js";
import { playable } from "./player.js";
import { cancel, outcome, statuses } from "./run.js";
import { runningView } from "./running.js";

// Returns {node, release, ended}: the four views, a function that frees their memory, and a promise that is true when all
// have ended while the page showed them. `pick(request)` is called with the chosen one.
export function four(endpoint, requests, pick, signal) {
  const releases = [];
  const tiles = requests.map(() => el("div", { class: "tile" }));
  const all = requests.map((request, place) => follow(request, tiles[place]));

  async function follow(request, tile) {
    const view = runningView(endpoint, request);
    tile.append(view.node);
    try {
      for await (const status of statuses(endpoint, request, signal)) view.update(status);
      const { made, entry, error } = await outcome(endpoint, request, signal);
      if (!made) {
        const reason = entry.state === "cancelled" ? "Cancelled" : (error?.message ?? "It failed.");
        throw new Error(entry.input?.seed === undefined ? reason : `Seed ${entry.input.seed}: ${reason}`);
      }
      if (!entry.video) throw new Error("No file is stored.");
      const { address, release } = await playable(entry.video.url, { signal });
      releases.push(release);
      const title =
        Number.isInteger(made.seed) || typeof made.seed === "bigint" ? `Pick seed ${made.seed}` : "Pick this";
      const label = { label: title };
      const film = el("video", {
        src: address,
        loop: true,
        muted: true,
        autoplay: true,
        playsinline: true,
        controls: true,
        aria: label,
      });
      tile.replaceChildren(film, el("button", { type: "button", onclick: () => pick(request) }, title));
    } catch (error) {
      if (!signal.aborted) tile.replaceChildren(el("p", { class: "error", role: "alert" }, error.message));
    } finally {
      view.stop();
    }
  }
  // Those that have ended already refuse it, which harms nothing.
  async function cancelAll() {
    stop.disabled = true;
    const ends = await Promise.allSettled(requests.map((request) => cancel(endpoint, request)));
    const failed = ends.find(({ reason }) => reason && reason.status !== 400);
    if (failed) toast(failed.reason.message, { failed: true });
    stop.disabled = false;
  }

  const stop = el("button", { type: "button", onclick: cancelAll }, "Cancel all");
  const free = () => releases.forEach((release) => release());
  const ended = Promise.all(all).then(() => {
    stop.remove();
    return !signal.aborted;
  });
  const node = el(
    "div",
    { class: "result" },
    el("div", { class: "actions" }, stop),
    el("div", { class: "four" }, tiles),
  );
  return { node, release: free, ended };
}

// Up to four requests beside each other, to pick one of their results.

import { comparePage, entryPath } from "./addresses.js";
import { callJson } from "./api.js";
import { button, el, focusIn, refill, toast } from "./dom.js";
import { playable } from "./playable.js";
import { usualTimes } from "./progress.js";
import { cancel, outcome, statuses, submit, withoutCut } from "./run.js";
import { runningView } from "./running.js";

// Returns the element with the views of the requests.
//
// pick: called with the id of the chosen request.
// onRerun: called with the ids of all when one of them runs again with the same settings, as a new request.
// onEnd: called whenever none of them waits or runs any more.
// signal: ends the views, and frees their videos.
export function four(endpoint, requests, { pick, onRerun, onEnd }, signal) {
  const ids = [...requests];
  const times = usualTimes(endpoint);
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const tiles = ids.map(() => el("div", { class: "tile" }));
  const takes = el("div", { class: "four" }, tiles);
  const stop = button("Cancel all", cancelAll);
  const open = new Set(); // places of those that wait or run

  async function follow(place) {
    const request = ids[place];
    const tile = tiles[place];
    const view = runningView(endpoint, request, times);
    refill(tile, seedLine(request), view.node);
    open.add(place);
    let wasOpen = false;
    stop.hidden = false;
    try {
      for await (const status of statuses(endpoint, request, signal)) {
        wasOpen ||= status.status !== "COMPLETED";
        view.update(status);
      }
      const ended = await outcome(endpoint, request, signal);
      if (ended.entry.video) await showResult(tile, request, ended);
      else showFailure(tile, place, ended);
    } catch (error) {
      if (!signal.aborted) refill(tile, message(error.message));
    } finally {
      view.stop();
      open.delete(place);
      if (!open.size) hideStop();
      if (!open.size && wasOpen && !signal.aborted) onEnd();
    }
  }

  // Hides the button that cancels all. If it has the focus, the first control of the takes gets it.
  function hideStop() {
    if (stop === document.activeElement) focusIn(takes);
    stop.hidden = true;
  }

  // Returns a line that shows the seed in the request's input once that is known. Without a seed it stays hidden.
  function seedLine(request) {
    const line = el("p", { class: "quiet", hidden: true });
    callJson(entryPath(request), { signal })
      .then(({ input }) => {
        if ((input?.seed ?? null) === null) return;
        line.textContent = `Seed ${input.seed}`;
        line.hidden = false;
      })
      .catch(() => {}); // whoever follows the request is told of an outage
    return line;
  }

  async function showResult(tile, request, { made, entry }) {
    const { address } = await playable(entry.video.url, { signal });
    if (signal.aborted) return;
    const seed = made?.seed ?? null;
    const title = seed === null ? "Pick this" : `Pick seed ${seed}`;
    const looks = { loop: true, muted: true, autoplay: !isCalm, playsinline: true, controls: true };
    const film = el("video", { src: address, ...looks, aria: { label: seed === null ? "A take" : `Seed ${seed}` } });
    const choose = button(title, () => pick(request), { class: "main" });
    const compare = el("a", { class: "button", href: comparePage(request) }, "Compare");
    refill(tile, film, el("div", { class: "actions" }, choose, compare));
  }

  function showFailure(tile, place, { made, entry, error }) {
    const seed = entry.input?.seed;
    const failure = error?.message ?? "It failed.";
    const reason = made ? "No file is stored." : entry.state === "cancelled" ? "Cancelled" : failure;
    const text = seed === undefined ? reason : `Seed ${seed}: ${reason}`;
    const retry = entry.input ? button("Run again", () => rerun(place, entry.input)) : "";
    refill(tile, message(text, entry.state === "cancelled"), retry);
  }

  async function rerun(place, input) {
    ids[place] = await submit(endpoint, withoutCut(input));
    if (signal.aborted) return; // the page shows something else by now
    onRerun(ids);
    follow(place);
  }

  async function cancelAll() {
    const ends = await Promise.allSettled([...open].map((place) => cancel(endpoint, ids[place])));
    const failed = ends.find(({ reason }) => reason);
    if (failed) toast(failed.reason.message, { failed: true });
  }

  const node = el("div", { class: "result" }, el("div", { class: "actions" }, stop), takes);
  ids.forEach((_, place) => follow(place));
  return node;
}

const message = (text, isWanted = false) => el("p", { class: isWanted ? "quiet" : "error", role: "alert" }, text);

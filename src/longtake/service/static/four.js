// Up to four requests beside each other, to pick one of their results.

import { ROOT, callJson } from "./api.js";
import { el, toast } from "./dom.js";
import { playable } from "./playable.js";
import { usualTimes } from "./progress.js";
import { cancel, outcome, statuses, submit, withoutCut } from "./run.js";
import { runningView } from "./running.js";

// Returns {node, release}: the views of the requests, and a function that frees their memory.
//
// pick: called with the id of the chosen request.
// onRerun: called with the ids of all when one of them runs again with the same settings, as a new request.
// onEnd: called whenever none of them waits or runs any more.
// signal: ends the views.
export function four(endpoint, requests, { pick, onRerun, onEnd }, signal) {
  const ids = [...requests];
  const releases = [];
  const times = usualTimes(endpoint);
  const tiles = ids.map(() => el("div", { class: "tile" }));
  let open = 0;

  async function follow(place) {
    const request = ids[place];
    const tile = tiles[place];
    const view = runningView(endpoint, request, times);
    tile.replaceChildren(seedLine(request), view.node);
    open += 1;
    stop.hidden = false;
    try {
      for await (const status of statuses(endpoint, request, signal)) view.update(status);
      const ended = await outcome(endpoint, request, signal);
      if (ended.entry.video) await showResult(tile, request, ended);
      else showFailure(tile, place, ended);
    } catch (error) {
      if (!signal.aborted) tile.replaceChildren(message(error.message));
    } finally {
      view.stop();
      open -= 1;
      stop.hidden = open === 0;
      if (!open && !signal.aborted) onEnd();
    }
  }

  // Returns a line that shows the seed in the request's input once that is known. Without a seed it stays hidden.
  function seedLine(request) {
    const line = el("p", { class: "quiet", hidden: true });
    callJson(`page/requests/${request}`, { signal })
      .then(({ input }) => {
        if ((input?.seed ?? null) === null) return;
        line.textContent = `Seed ${input.seed}`;
        line.hidden = false;
      })
      .catch(() => {}); // whoever follows the request is told of an outage
    return line;
  }

  async function showResult(tile, request, { made, entry }) {
    const { address, release } = await playable(entry.video.url, { signal });
    releases.push(release);
    const seed = made?.seed ?? null;
    const title = seed === null ? "Pick this" : `Pick seed ${seed}`;
    const label = { label: title };
    const looks = { loop: true, muted: true, autoplay: true, playsinline: true, controls: true, aria: label };
    const film = el("video", { src: address, ...looks });
    const choose = el("button", { type: "button", class: "main", onclick: () => pick(request) }, title);
    const compare = el("a", { class: "button", href: `${ROOT}compare?a=${request}` }, "Compare");
    tile.replaceChildren(film, el("div", { class: "actions" }, choose, compare));
  }

  function showFailure(tile, place, { made, entry, error }) {
    const seed = entry.input?.seed;
    const failure = error?.message ?? "It failed.";
    const reason = made ? "No file is stored." : entry.state === "cancelled" ? "Cancelled" : failure;
    const retry = el("button", { type: "button", onclick: () => rerun(place, entry.input, retry) }, "Run again");
    const text = seed === undefined ? reason : `Seed ${seed}: ${reason}`;
    tile.replaceChildren(message(text, entry.state === "cancelled"), entry.input ? retry : "");
  }

  async function rerun(place, input, button) {
    button.disabled = true;
    try {
      ids[place] = await submit(endpoint, withoutCut(input));
      if (signal.aborted) return; // the page shows something else by now
      onRerun(ids);
      follow(place);
    } catch (error) {
      button.disabled = false;
      toast(error.message, { failed: true });
    }
  }

  // Those that have ended already refuse it, which harms nothing.
  async function cancelAll() {
    stop.disabled = true;
    const ends = await Promise.allSettled(ids.map((request) => cancel(endpoint, request)));
    const failed = ends.find(({ reason }) => reason && reason.status !== 400);
    if (failed) toast(failed.reason.message, { failed: true });
    stop.disabled = false;
  }

  const stop = el("button", { type: "button", onclick: cancelAll }, "Cancel all");
  const actions = el("div", { class: "actions" }, stop);
  const node = el("div", { class: "result" }, actions, el("div", { class: "four" }, tiles));
  ids.forEach((_, place) => follow(place));
  return { node, release: () => releases.forEach((release) => release()) };
}

const message = (text, isWanted = false) => el("p", { class: isWanted ? "quiet" : "error", role: "alert" }, text);

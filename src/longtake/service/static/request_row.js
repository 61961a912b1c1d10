// The row of a request in the history: what it is, how far it is, and what can be done with it.

import { HOME, chainPage, entryPath, extendPage, requestPage } from "./addresses.js";
import { callJson } from "./api.js";
import { button, copyText, el } from "./dom.js";
import { download, downloadName } from "./download.js";
import { cancel, submit, withoutCut } from "./run.js";
import { isSelectable, selector } from "./selection.js";
import { renew } from "./shell.js";
import { picture } from "./thumbnail.js";
import { STATES, dollars, line, plural, seconds, seedWords, when } from "./words.js";

const MOST_NAME = 60; // characters of a prompt that name its row

// Returns the row of a request, as `page/requests` lists it.
//
// now: the server's time in seconds.
// name: the name of the request's endpoint for people.
// remove: called with the request when the person deletes it.
// share: returns the share of a report on the request's progress that its bar shows.
export function requestRow(request, now, name, remove, share) {
  const { video } = request;
  return el(
    "li",
    { class: `request ${request.state}`, data: { id: request.id } },
    picture(video?.url, requestPage(request)),
    el(
      "div",
      { class: "facts-of" },
      head(request, name),
      request.prompt ? el("p", { class: "prompt" }, request.prompt) : null,
      request.error && request.state !== "cancelled" ? el("p", { class: "error" }, request.error) : null,
      request.state === "running" ? progress(request, share) : null,
      request.state === "done" && !video
        ? el("p", { class: "quiet" }, request.erased_at ? "Deleted." : "No file is stored.")
        : null,
      el("p", { class: "figures quiet", title: request.id }, figures(request, now)),
    ),
    el("div", { class: "tools" }, tools(request, remove)),
  );
}

function head(request, name) {
  const stand = request.stand_in;
  return el(
    "p",
    { class: "head" },
    el("span", { class: "state" }, STATES[request.state]),
    " ",
    el("a", { class: "endpoint", href: requestPage(request), title: request.endpoint }, name),
    request.parent || request.extended ? el("a", { class: "badge", href: chainPage(request.id) }, "part of a chain") : null,
    stand ? el("span", { class: "badge warn", title: stand }, `${request.model} stands in`) : null,
  );
}

function figures(request, now) {
  const { video, state } = request;
  return line([
    when(request.created_at),
    state === "waiting" && (request.position ? `${request.position} before it` : "next in line"),
    state === "running" && `for ${seconds(Math.max(0, now - request.started_at))}`,
    request.completed_at && request.started_at && `took ${seconds(request.completed_at - request.started_at)}`,
    video?.width && `${video.width} × ${video.height}`,
    video?.duration && seconds(video.duration),
    video?.num_frames && plural(video.num_frames, "frame"),
    seedWords(request.seed),
    !request.stand_in && request.model, // the badge of a stand-in names it
    Number(request.price_usd) > 0 && dollars(request.price_usd),
  ]);
}

function progress({ progress: report }, share) {
  const value = report ? { value: share(report) } : {};
  const bar = el("progress", { max: 1, ...value, aria: { label: "Progress of the request" } });
  return el("div", { class: "progress" }, bar, el("p", { class: "stage" }, report?.message ?? "Starting"));
}

function tools(request, remove) {
  const { endpoint, id, video, erased_at: erased } = request;
  // A screen reader that lists the controls of the page must tell those of one row from those of another.
  const named = (text) => ({ aria: { label: `${text}: ${shortened(request.prompt || endpoint)}` } });
  const action = (text, act) => button(text, act, { class: "plain", ...named(text) });
  return [
    isSelectable(request) && selector(request, named("Select")),
    video && el("a", { href: extendPage(endpoint, video.url), ...named("Extend") }, "Extend"),
    video && action("Download", () => download(video.url, downloadName(request))),
    isRepeatable(request) && action("Run again", () => rerun(request)),
    request.shared && action("Share", () => copyText(HOME + request.shared)),
    !erased && request.completed_at && action("Delete", () => remove(request)),
    !erased && !request.completed_at && action("Cancel", () => cancel(endpoint, id)),
  ];
}

const shortened = (text) => (text.length > MOST_NAME ? `${text.slice(0, MOST_NAME)}…` : text);

// Requests without a result can be run again while their input is there.
const isRepeatable = ({ state, erased_at: erased }) => ["cancelled", "failed"].includes(state) && !erased;

async function rerun({ endpoint, id }) {
  const { input } = await callJson(entryPath(id));
  if (!input) throw new Error("It cannot run again: its input is not here.");
  await submit(endpoint, withoutCut(input));
  await renew();
}

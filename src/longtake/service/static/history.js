// The history: all requests that this key may see, with filters; the chain of extensions that a request belongs to.

import { HOME, ROOT, callJson } from "./api.js";
import { drawChain } from "./chain.js";
import { by, copyText, el, toast } from "./dom.js";
import { place } from "./list.js";
import { overallShare } from "./progress.js";
import { cancel, erase } from "./run.js";
import { onRequests, renew } from "./shell.js";
import { picture } from "./thumbnail.js";
import { STATES, dollars, plural, seconds, when } from "./words.js";

const filters = by("filters");
const shown = new Map();
const picked = new Set();
let before = null;

async function start() {
  const { models } = await callJson("v1/models");
  filters.elements.endpoint.append(...models.map(({ endpoint_id: id }) => el("option", { value: id }, id)));
  const query = new URLSearchParams(location.search);
  for (const name of ["endpoint", "state", "q"]) filters.elements[name].value = query.get(name) ?? "";
  if (query.has("chain")) drawChain(by("chain"), query.get("chain"));
  onRequests(load);
}

// Returns the filters that are set, as parameters of an address.
const chosen = () => new URLSearchParams([...new FormData(filters)].filter(([, value]) => value));

// Loads the page of requests that the filters and the address choose, and those that wait or run, which are on top of
// every page. It is called again as the queue changes.
async function load(list, signal) {
  const query = chosen();
  const ask = (more) =>
    callJson(`page/requests?${new URLSearchParams({ ...Object.fromEntries(query), ...more })}`, { signal });
  const states = query.has("state") ? [] : ["running", "waiting"].filter((state) => list[state] > 0);
  const page = before !== null ? ask({ before }) : query.size ? ask({}) : list;
  const [found, ...open] = await Promise.all([page, ...states.map((state) => ask({ state }))]);
  if (!signal.aborted)
    draw(
      found,
      open.flatMap(({ requests }) => requests),
    );
}

function draw(list, open) {
  by("older").hidden = list.older === null;
  by("older").dataset.before = list.older ?? "";
  by("newest").hidden = before === null;
  const pinned = new Set(open.map(({ id }) => id));
  const ordered = [...open, ...list.requests.filter(({ id }) => !pinned.has(id))];
  by("none").hidden = ordered.length > 0;
  by("none").textContent =
    chosen().size || before !== null
      ? "None on this page match the filters."
      : "No requests yet. They appear here as clients submit them.";
  place(
    by("requests"),
    ordered.map((request) => row(request, list.now)),
  );
  for (const [id, { node }] of shown) if (!node.isConnected) shown.delete(id);
}

// Returns the row of a request. A row that is shown already is kept while its request has not changed,
// and while it has the focus.
function row(request, now) {
  const text =
    JSON.stringify([request.state, request.progress, request.position, request.video?.url, request.erased_at]) +
    (request.completed_at ? "" : now);
  const known = shown.get(request.id);
  if (known?.text === text) return known.node;
  if (known?.node.contains(document.activeElement)) return known.node;
  const node = drawn(request, now);
  shown.set(request.id, { node, text });
  return node;
}

function drawn(request, now) {
  const { video } = request;
  const address = `${ROOT}models/${request.endpoint}?request=${request.id}`;
  const pick = el("input", {
    type: "checkbox",
    aria: { label: "Pick for comparing" },
    onchange: () => choose(request.id, pick.checked),
  });
  pick.checked = picked.has(request.id);
  const figures = [
    when(request.created_at),
    request.state === "waiting" && (request.position ? `${request.position} before it` : "next in line"),
    request.state === "running" && `for ${seconds(Math.max(0, now - request.started_at))}`,
    request.completed_at && request.started_at && `took ${seconds(request.completed_at - request.started_at)}`,
    video?.width && `${video.width} × ${video.height}`,
    video?.duration && seconds(video.duration),
    video?.num_frames && plural(video.num_frames, "frame"),
    request.seed !== null && request.seed !== undefined && `seed ${request.seed}`,
    request.model,
    Number(request.price_usd) > 0 && dollars(request.price_usd),
  ]
    .filter(Boolean)
    .join(" · ");
  return el(
    "li",
    { class: `request ${request.state}`, data: { id: request.id } },
    picture(video?.url, address),
    el(
      "div",
      { class: "facts-of" },
      el(
        "p",
        { class: "head" },
        el("span", { class: "state" }, STATES[request.state]),
        " ",
        el("a", { class: "endpoint", href: address }, request.endpoint),
        request.parent
          ? el("a", { class: "badge", href: `${ROOT}history?chain=${request.id}` }, "part of a chain")
          : null,
        request.stand_in
          ? el("span", { class: "badge warn", title: request.stand_in }, `${request.model} stands in`)
          : null,
      ),
      request.prompt ? el("p", { class: "prompt" }, request.prompt) : null,
      request.error ? el("p", { class: "error" }, request.error) : null,
      request.state === "running"
        ? el(
            "div",
            { class: "progress" },
            progressBar(request.progress),
            el("p", { class: "stage" }, request.progress?.message ?? "Starting"),
          )
        : null,
      request.state === "done" && !video
        ? el("p", { class: "quiet" }, request.erased_at ? "Deleted." : "No file is stored.")
        : null,
      el("p", { class: "figures quiet", title: request.id }, figures),
    ),
    el(
      "div",
      { class: "tools" },
      video ? el("label", { class: "pick" }, pick, "Pick") : null,
      video
        ? el(
            "a",
            {
              href: `${ROOT}models/${request.endpoint}?source=${encodeURIComponent(video.url)}`,
            },
            "Extend",
          )
        : null,
      request.shared
        ? el(
            "button",
            {
              type: "button",
              class: "plain",
              onclick: () => copyText(HOME + request.shared),
            },
            "Share",
          )
        : null,
      request.erased_at ? null : end(request),
    ),
  );
}

// Returns the button that ends a request: it deletes one that has ended, and cancels any other.
function end(request) {
  const [text, act] = request.completed_at ? ["Delete", remove] : ["Cancel", stop];
  return el("button", { type: "button", class: "plain", onclick: () => act(request) }, text);
}

function progressBar(progress) {
  const value = progress ? { value: overallShare(progress) } : {};
  return el("progress", { max: 1, ...value, aria: { label: "Progress of the request" } });
}

function choose(id, wanted) {
  if (wanted) picked.add(id);
  else picked.delete(id);
  const [a, b] = [...picked].slice(-2);
  by("picked").hidden = picked.size < 2;
  by("picked-text").textContent = `${picked.size} picked`;
  if (b) by("picked-compare").href = `${ROOT}compare?a=${a}&b=${b}`;
}

async function stop({ endpoint, id }) {
  await cancel(endpoint, id).catch((error) => toast(error.message, { failed: true }));
}

async function remove({ id }) {
  if (await erase(id)) shown.get(id)?.node.classList.add("deleted");
}

let typing = 0;
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    before = null;
    const query = chosen();
    history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
    renew();
  }, 300);
});
by("older").addEventListener("click", () => {
  before = by("older").dataset.before;
  renew();
});
by("newest").addEventListener("click", () => {
  before = null;
  renew();
});
start().catch((error) => toast(error.message, { failed: true }));

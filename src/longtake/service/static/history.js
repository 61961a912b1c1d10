// The history: all requests that this key may see, with filters; or only the chain that one request belongs to.

import { HOME, ROOT, callJson } from "./api.js";
import { drawChain } from "./chain.js";
import { deletionOf, eraseSoon, undoable } from "./deletion.js";
import { by, copyText, el, toast } from "./dom.js";
import { download, downloadName } from "./download.js";
import { place } from "./list.js";
import { overallShare } from "./progress.js";
import { cancel, submit, withoutCut } from "./run.js";
import { onRequests, renew } from "./shell.js";
import { picture } from "./thumbnail.js";
import { STATES, dollars, plural, seconds, when } from "./words.js";

const DELETED = "deleted";
const filters = by("filters");
const names = new Map(); // id of an endpoint -> its name for people
const shown = new Map();
const picked = new Map(); // id -> entry
let before = null;
let listed = { ordered: [], now: 0 };

async function start() {
  const query = new URLSearchParams(location.search);
  if (query.has("chain")) {
    by("all").hidden = true;
    by("chain").hidden = false;
    await drawChain(by("tree"), query.get("chain"));
    return;
  }
  const { models } = await callJson("v1/models");
  for (const { endpoint_id: id, metadata } of models) names.set(id, metadata.display_name);
  filters.elements.endpoint.append(...[...names].map(([id, name]) => el("option", { value: id }, name)));
  for (const name of ["endpoint", "state", "q"]) filters.elements[name].value = query.get(name) ?? "";
  onRequests(load);
}

// Returns the filters that are set, as parameters of this page's address.
const chosen = () => new URLSearchParams([...new FormData(filters)].filter(([, value]) => value));

// Returns the same as parameters for the server. Deleted requests are shown only if they are asked for.
function asked() {
  const query = chosen();
  const isDeleted = query.get("state") === DELETED;
  if (isDeleted) query.delete("state");
  query.set("erased", isDeleted ? "yes" : "no");
  return query;
}

// Loads the page of requests that the filters and the address choose, and those that wait or run, which are on top of
// every page. It is called again as the queue changes.
async function load(list, signal) {
  const query = asked();
  const ask = (more) =>
    callJson(`page/requests?${new URLSearchParams({ ...Object.fromEntries(query), ...more })}`, { signal });
  const states = chosen().has("state") ? [] : ["running", "waiting"].filter((state) => list[state] > 0);
  // The list that all pages have is the newest page of this one, unless it has deleted requests.
  const isSame = before === null && !chosen().size && list.requests.every(({ erased_at: erased }) => !erased);
  const page = isSame ? list : ask(before === null ? {} : { before });
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
    chosen().size || before !== null || list.older !== null
      ? "None on this page match the filters."
      : "No requests yet. They appear here as clients submit them.";
  listed = { ordered, now: list.now };
  drawRows();
}

// Shows the listed requests. Those that are being deleted together have one row, which can undo it. It is on top if they
// are on other pages or if the filters hide them.
function drawRows() {
  const { ordered, now } = listed;
  const rows = new Set(ordered.map((request) => deletionOf(request.id)?.node ?? row(request, now)));
  const focused = document.activeElement;
  const id = focused?.closest(".request")?.dataset.id;
  const elsewhere = undoable().filter(({ node }) => !rows.has(node));
  place(by("requests"), [...elsewhere.map(({ node }) => node), ...rows]);
  for (const [key, { node }] of shown) if (!node.isConnected) shown.delete(key);
  if (id && !focused.isConnected) focusIn(shown.get(id)?.node, focused.textContent);
}

// Gives the focus to the control of a row that has this text, or to the row's first one.
function focusIn(row, text = "") {
  const controls = [...(row?.querySelectorAll("button, a[href]:not([tabindex])") ?? [])];
  (controls.find((one) => one.textContent === text) ?? controls[0] ?? by("title")).focus();
}

// Returns the row of a request. A row that is shown already is kept while its request has not changed. One that has the
// focus is kept while the request's state is the same.
function row(request, now) {
  const text =
    JSON.stringify([request.state, request.progress, request.position, request.video?.url, request.erased_at]) +
    (request.completed_at ? "" : now);
  const known = shown.get(request.id);
  if (known?.text === text) return known.node;
  const isSame = known?.request.state === request.state && known.request.erased_at === request.erased_at;
  if (isSame && known.node.contains(document.activeElement)) return known.node;
  const node = drawn(request, now);
  shown.set(request.id, { node, text, request });
  return node;
}

function drawn(request, now) {
  const { video } = request;
  const address = `${ROOT}models/${request.endpoint}?request=${request.id}`;
  const pick = el("input", { type: "checkbox", onchange: () => choose(request, pick.checked) });
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
        el("a", { class: "endpoint", href: address, title: request.endpoint }, names.get(request.endpoint)),
        request.parent
          ? el("a", { class: "badge", href: `${ROOT}history?chain=${request.id}` }, "part of a chain")
          : null,
        request.stand_in
          ? el("span", { class: "badge warn", title: request.stand_in }, `${request.model} stands in`)
          : null,
      ),
      request.prompt ? el("p", { class: "prompt" }, request.prompt) : null,
      request.error && request.state !== "cancelled" ? el("p", { class: "error" }, request.error) : null,
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
      isPickable(request) ? el("label", { class: "pick" }, pick, "Select") : null,
      video
        ? el(
            "a",
            {
              href: `${ROOT}models/${request.endpoint}?source=${encodeURIComponent(video.url)}`,
            },
            "Extend",
          )
        : null,
      video ? action("Download", () => download(video.url, downloadName(request))) : null,
      isRepeatable(request) ? action("Run again", () => rerun(request)) : null,
      request.shared ? action("Share", () => copyText(HOME + request.shared)) : null,
      request.erased_at ? null : end(request),
    ),
  );
}

// Returns the button that ends a request: it deletes one that has ended, and cancels any other.
function end(request) {
  return request.completed_at ? action("Delete", () => remove([request])) : action("Cancel", () => stop(request));
}

const action = (text, onclick) => el("button", { type: "button", class: "plain", onclick }, text);

function progressBar(progress) {
  const value = progress ? { value: overallShare(progress) } : {};
  return el("progress", { max: 1, ...value, aria: { label: "Progress of the request" } });
}

// Requests that have ended can be deleted together, and two with videos can be compared.
const isPickable = ({ completed_at: ended, erased_at: erased }) => Boolean(ended) && !erased;

function choose(entry, wanted) {
  if (wanted) picked.set(entry.id, entry);
  else picked.delete(entry.id);
  showPicked();
}

function showPicked() {
  const videos = [...picked.values()].filter(({ video }) => video);
  by("picked").hidden = picked.size === 0;
  by("picked-text").textContent = `${picked.size} selected`;
  by("picked-compare").hidden = picked.size !== 2 || videos.length !== 2;
  if (videos.length === 2) by("picked-compare").href = `${ROOT}compare?a=${videos[0].id}&b=${videos[1].id}`;
}

function pickAll(wanted) {
  for (const { node, request } of shown.values()) {
    if (!isPickable(request)) continue;
    node.querySelector(".pick input").checked = wanted;
    if (wanted) picked.set(request.id, request);
  }
  if (!wanted) picked.clear();
  showPicked();
}

// Requests without a result can be run again while their input is there.
const isRepeatable = ({ state, erased_at: erased }) => ["cancelled", "failed"].includes(state) && !erased;

async function rerun({ endpoint, id }) {
  try {
    const { input } = await callJson(`page/requests/${id}`);
    if (!input) throw new Error("It cannot run again: its input is not here.");
    await submit(endpoint, withoutCut(input));
    await renew();
  } catch (error) {
    toast(error.message, { failed: true });
  }
}

async function stop({ endpoint, id }) {
  await cancel(endpoint, id).catch((error) => toast(error.message, { failed: true }));
}

// Deletes requests, unless the person undoes it in the row that takes their place. The focus stays at that place.
function remove(entries) {
  const deletion = eraseSoon(entries, "li", async (kept) => {
    const list = by("requests");
    const hadFocus = deletion.node.contains(document.activeElement);
    const index = [...list.children].indexOf(deletion.node);
    if (kept.length) drawRows();
    else await renew();
    if (!hadFocus) return;
    focusIn(list.children[Math.min(index, list.children.length - 1)]);
  });
  for (const { id } of entries) picked.delete(id);
  showPicked();
  drawRows();
  deletion.undo.focus();
}

by("picked-delete").addEventListener("click", () => remove([...picked.values()]));
by("picked-all").addEventListener("click", () => pickAll(true));
by("picked-none").addEventListener("click", () => pickAll(false));

let typing = 0;
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("input", () => {
  pickAll(false); // rows that the new filter hides must not be deleted
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

// The history: all requests that this key may see, with filters; or only the chain that one request belongs to.

import { callJson } from "./api.js";
import { drawChain } from "./chain.js";
import { deletionOf, eraseSoon, undoable } from "./deletion.js";
import { by, controlsIn, el } from "./dom.js";
import { place } from "./list.js";
import { gauge } from "./progress.js";
import { requestRow } from "./request_row.js";
import { isSelectable, select, selected } from "./selection.js";
import { failToBegin, onRequests, renew } from "./shell.js";

const TYPING_MS = 300;
const DELETED = "deleted";
const filters = by("filters");
const names = new Map(); // id of an endpoint -> its name for people
const shown = new Map(); // id of a request -> {node, text, request, share} of its row
// What is listed: the filters that are applied, and the page of the list that begins before a request; null: the newest.
// It changes as a whole, so that no renewal of the list mixes the old with what is just being typed.
let view = { query: new URLSearchParams(), before: null };
let listed = { ordered: [], now: 0 };

async function start() {
  const query = new URLSearchParams(location.search);
  if (query.has("chain")) {
    by("all").hidden = true;
    by("chain").hidden = false;
    drawChain(by("tree"), query.get("chain"), new AbortController().signal);
    return;
  }
  const set = (name) => (filters.elements[name].value = query.get(name) ?? "");
  for (const name of ["state", "q"]) set(name); // before anybody can write into them
  const { models } = await callJson("v1/models");
  for (const { endpoint_id: id, metadata } of models) names.set(id, metadata.display_name);
  filters.elements.endpoint.append(...[...names].map(([id, name]) => el("option", { value: id }, name)));
  set("endpoint");
  view = { query: written(), before: null };
  onRequests(load);
}

// Returns the filters in the form, as parameters of this page's address.
const written = () => new URLSearchParams([...new FormData(filters)].filter(([, value]) => value));

// Returns applied filters as parameters for the server. Deleted requests are shown only if they are asked for.
function asked(applied) {
  const query = new URLSearchParams(applied);
  const isDeleted = query.get("state") === DELETED;
  if (isDeleted) query.delete("state");
  query.set("erased", isDeleted ? "yes" : "no");
  return query;
}

// Loads the page of requests that the view chooses, and those that wait or run, which are on top of every page. It is
// called again as the queue changes.
async function load(list, signal) {
  const { query: applied, before } = view;
  const query = asked(applied);
  const ask = (more) =>
    callJson(`page/requests?${new URLSearchParams({ ...Object.fromEntries(query), ...more })}`, { signal });
  const states = applied.has("state") ? [] : ["running", "waiting"].filter((state) => list[state] > 0);
  // The list that all pages have is the newest page of this one, unless it has deleted requests.
  const isSame = before === null && !applied.size && list.requests.every(({ erased_at: erased }) => !erased);
  const page = isSame ? list : ask(before === null ? {} : { before });
  const [found, ...open] = await Promise.all([page, ...states.map((state) => ask({ state }))]);
  if (!signal.aborted)
    draw(
      found,
      open.flatMap(({ requests }) => requests),
    );
}

// Lists other requests, from the newest on if `before` is null.
function show(query, before) {
  view = { query, before };
  return renew();
}

function draw(list, open) {
  by("older").hidden = list.older === null;
  by("older").dataset.before = list.older ?? "";
  by("newest").hidden = view.before === null;
  const pinned = new Set(open.map(({ id }) => id));
  const ordered = [...open, ...list.requests.filter(({ id }) => !pinned.has(id))];
  by("none").hidden = ordered.length > 0;
  by("none").textContent =
    view.query.size || view.before !== null || list.older !== null
      ? "None on this page match the filters."
      : "No requests yet. What you run on these pages, and what programs submit, appears here.";
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
  const controls = row ? controlsIn(row) : [];
  (controls.find((one) => one.textContent === text) ?? controls[0] ?? by("title")).focus();
}

// Returns the row of a request. A row that is shown already is kept while its request has not changed. One that has the
// focus is kept while the request's state is the same.
function row(request, now) {
  const text =
    JSON.stringify([request.state, request.progress, request.position, request.video?.url, request.erased_at, request.extended]) +
    (request.completed_at ? "" : now);
  const known = shown.get(request.id);
  if (known?.text === text) return known.node;
  const isSame = known?.request.state === request.state && known.request.erased_at === request.erased_at;
  if (isSame && known.node.contains(document.activeElement)) return known.node;
  const share = known?.share ?? gauge();
  const node = requestRow(request, now, names.get(request.endpoint) ?? request.endpoint, (one) => remove([one]), share);
  shown.set(request.id, { node, text, request, share });
  return node;
}

// Deletes requests, unless the person undoes it in the row that takes their place. The focus stays at that place.
function remove(entries) {
  const deletion = eraseSoon(entries, "li", async (kept) => {
    const list = by("requests");
    const hadFocus = deletion.node.contains(document.activeElement);
    const index = [...list.children].indexOf(deletion.node);
    if (kept.length === entries.length) drawRows();
    else await renew();
    // Who went elsewhere while the list was on its way stays there.
    if (!hadFocus || document.activeElement !== document.body) return;
    focusIn(list.children[Math.min(index, list.children.length - 1)]);
  });
  select(entries, false);
  drawRows();
  deletion.undo.focus();
}

const listedNow = () => [...shown.values()].map(({ request }) => request);
by("picked-delete").addEventListener("click", () => remove(selected()));
by("picked-all").addEventListener("click", () => select(listedNow().filter(isSelectable), true));
by("picked-none").addEventListener("click", () => select(selected(), false));

// Applies the filters in the form. Rows that they hide are selected no more, so that these are not deleted.
function applyFilters() {
  clearTimeout(typing);
  const query = written();
  if (String(query) === String(view.query)) return;
  select(selected(), false);
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
  show(query, null);
}

let typing = 0;
filters.addEventListener("submit", (event) => {
  event.preventDefault();
  applyFilters();
});
filters.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(applyFilters, TYPING_MS);
});
filters.addEventListener("change", applyFilters);
by("older").addEventListener("click", () => show(view.query, by("older").dataset.before));
by("newest").addEventListener("click", () => show(view.query, null));
start().catch(failToBegin);

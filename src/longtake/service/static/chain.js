// The chain that a request belongs to, as a tree: the source, the request that extends it, the requests that extend its
// result, and so on. The file of each request is the whole video up to there. The tree follows what runs.

import { requestPage } from "./addresses.js";
import { callJson } from "./api.js";
import { button, controlsIn, el } from "./dom.js";
import { download, downloadName } from "./download.js";
import { gauge } from "./progress.js";
import { onRequests } from "./shell.js";
import { fileKey } from "./stored_files.js";
import { picture } from "./thumbnail.js";
import { STATES, line, plural, seconds, seedWords } from "./words.js";

// Draws into `node` the tree with the request `id` in it, and again whenever it changes, until `signal` ends. After that
// `onDrawn(count)` is called with the number of requests that it shows: of the others that failed, were cancelled or were
// deleted, only those whose result was extended.
export function drawChain(node, id, signal, onDrawn = () => {}) {
  const knots = new Map(); // id -> {text, node, show}
  let members = new Set([id]);
  let known = null; // what was drawn, as text
  node.replaceChildren(el("p", { class: "quiet", role: "status" }, "Loading"));
  onRequests(follow, signal);

  async function follow({ requests }, newer) {
    try {
      if (known === null || textOf(requests) !== known) await load(requests, newer);
    } catch (error) {
      if (newer.aborted || signal.aborted) return;
      node.replaceChildren(el("p", { class: "error" }, error.message));
    }
    for (const { id: own, progress } of requests) knots.get(own)?.show(progress);
  }

  // Returns what a list of requests tells of those in the tree, and of those that extend one of them.
  const textOf = (requests) =>
    JSON.stringify(requests.filter((one) => members.has(one.id) || members.has(one.parent)).map(drawnOf));

  async function load(requests, newer) {
    const all = await wholeTree(id, newer);
    if (signal.aborted) return;
    members = new Set([id, ...all.map((one) => one.id)]);
    known = textOf(requests);
    draw(shownOf(all, id));
  }

  function draw(entries) {
    const focused = node.contains(document.activeElement) && document.activeElement;
    const ids = new Set(entries.map((entry) => entry.id));
    const roots = entries.filter(({ parent }) => !ids.has(parent));
    const last = lastOf(entries, id);
    const trees = roots.map((root) => el("ul", { class: "tree" }, beginning(root), items(root, { entries, id, last }, knots)));
    const whole = last && el("div", { class: "actions" }, wholeOf(last, entries));
    node.replaceChildren(...(trees.length ? [whole, ...trees].filter(Boolean) : [nothing()]));
    if (focused) (focused.isConnected ? focused : controlsIn(node)[0])?.focus({ preventScroll: true });
    onDrawn(entries.length);
  }
}

const nothing = () => el("p", { class: "empty" }, "There is no such request.");

// Returns the facts of a request on which its knot depends.
const drawnOf = ({ id, state, erased_at: erased, video }) => [id, state, erased, video?.url];

// Returns the entries of all requests of the tree, oldest first.
async function wholeTree(id, signal) {
  const entries = [];
  let before = null;
  do {
    const query = new URLSearchParams({ tree: id, ...(before === null ? {} : { before }) });
    const list = await callJson(`page/requests?${query}`, { signal });
    entries.push(...list.requests);
    before = list.older;
  } while (before !== null);
  return entries.reverse();
}

// Returns the entries that are shown of a whole tree.
function shownOf(all, id) {
  const parents = new Set([id, ...all.map(({ parent }) => parent)]);
  const isLost = ({ state, erased_at: erased }) => erased || state === "failed" || state === "cancelled";
  return all.filter((entry) => parents.has(entry.id) || !isLost(entry));
}

// Returns the entry with the longest video that continues the request `id`: the newest extension of its newest
// extension, and so on. Null if the request has no video and was not extended.
function lastOf(entries, id) {
  let last = entries.find((entry) => entry.id === id && entry.video) ?? null;
  for (let next = last; next; next = entries.findLast(({ parent, video }) => video && parent === next.id)) last = next;
  return last;
}

// Returns the button that saves the whole chain, with what it has in it.
function wholeOf(last, entries) {
  let count = 0;
  for (let one = last; one; one = entries.find(({ id }) => id === one.parent)) count += 1;
  const facts = `${seconds(last.video.duration ?? 0)}: the source and ${plural(count, "extension")}`;
  return [save(last.video.url, downloadName(last), "Download the whole", ""), el("span", { class: "quiet" }, facts)];
}

// Returns the item of the source that a request extends.
function beginning({ source }) {
  const facts = el("p", { class: "quiet" }, source ? "" : "It is not stored here.");
  if (source)
    callJson(`media/${fileKey(source)}/facts`)
      .then(({ duration, width, height }) => {
        facts.textContent = `${seconds(duration)} · ${width} × ${height}`;
      })
      .catch(() => {}); // the picture is missing, too
  const name = source && `longtake-source${/\.\w+$/.exec(source)?.[0] ?? ""}`;
  const get = source && save(source, name, "Download");
  return el("li", {}, knot(picture(source), "knot", el("strong", {}, "The source"), facts, get));
}

// Returns the items of a request and of all that follow it. A single extension follows in the same list, so that a long
// chain does not become narrow; where there are several, each begins a list of its own.
function items(entry, tree, knots) {
  const children = tree.entries.filter(({ parent }) => parent === entry.id);
  const own = el("li", {}, knotOf(entry, tree, knots));
  if (children.length === 1) return [own, ...items(children[0], tree, knots)];
  own.append(...children.map((child) => el("ul", {}, items(child, tree, knots))));
  return [own];
}

// Returns the knot of a request. The one that is shown already is kept while nothing on it has changed.
function knotOf(entry, { id, last }, knots) {
  const text = JSON.stringify([...drawnOf(entry), entry === last]);
  const known = knots.get(entry.id);
  if (known?.text === text) return known.node;
  const made = { text, ...requestKnot(entry, entry.id === id, entry === last) };
  knots.set(entry.id, made);
  return made.node;
}

// Returns {node, show} for the knot of a request. `show(progress)` shows how far it is, while it runs.
function requestKnot(entry, isChosen, isLast) {
  const { video, seed, model, error, state } = entry;
  const place = requestPage(entry);
  const facts = [
    state !== "done" && STATES[state],
    video?.duration && seconds(video.duration),
    video?.num_frames && plural(video.num_frames, "frame"),
    seedWords(seed),
    model,
    error,
    state === "done" && !video && (entry.erased_at ? "deleted" : "no file is stored"),
  ];
  const bar = el("progress", { max: 1, aria: { label: "Progress of the request" } });
  const node = knot(
    picture(video?.url, place),
    isChosen ? "knot chosen" : "knot",
    el("a", { href: place, aria: isChosen ? { current: "true" } : {} }, entry.prompt || entry.endpoint),
    el("p", { class: "quiet" }, line(facts)),
    state === "running" && bar,
    video && !isLast && save(video.url, downloadName(entry), "Download up to here"),
  );
  const read = gauge();
  return { node, show: (progress) => progress && (bar.value = read(progress)) };
}

const save = (path, name, text, look = "plain") => button(text, () => download(path, name), { class: look });

const knot = (image, name, ...about) => el("div", { class: name }, image, el("div", {}, about));

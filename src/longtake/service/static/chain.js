// The chain that a request belongs to, as a tree: the source, the request that extends it, the requests that extend its
// result, and so on. The file of each request is the whole video up to there.

import { requestPage } from "./addresses.js";
import { callJson, fileKey } from "./api.js";
import { el } from "./dom.js";
import { download, downloadName } from "./download.js";
import { picture } from "./thumbnail.js";
import { STATES, plural, seconds } from "./words.js";

// Draws into `node` the tree with the request `id` in it. Returns how many requests it shows: of the others that failed,
// were cancelled or were deleted, only those whose result was extended.
export async function drawChain(node, id) {
  node.replaceChildren(el("p", { class: "quiet", role: "status" }, "Loading"));
  try {
    const all = await wholeTree(id);
    const parents = new Set([id, ...all.map(({ parent }) => parent)]);
    const isLost = ({ state, erased_at: erased }) => erased || state === "failed" || state === "cancelled";
    const entries = all.filter((entry) => parents.has(entry.id) || !isLost(entry));
    const ids = new Set(entries.map((entry) => entry.id));
    const roots = entries.filter(({ parent }) => !ids.has(parent));
    const trees = roots.map((root) => el("ul", { class: "tree" }, beginning(root), items(root, entries, id)));
    node.replaceChildren(...(trees.length ? trees : [el("p", { class: "empty" }, "There is no such request.")]));
    return entries.length;
  } catch (error) {
    node.replaceChildren(el("p", { class: "error" }, error.message));
    return 0;
  }
}

// Returns the entries of all requests of the tree, oldest first.
async function wholeTree(id) {
  const entries = [];
  let before = null;
  do {
    const list = await callJson(`page/requests?${new URLSearchParams({ tree: id, ...(before === null ? {} : { before }) })}`);
    entries.push(...list.requests);
    before = list.older;
  } while (before !== null);
  return entries.reverse();
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
  return knot(picture(source), "knot", el("strong", {}, "The source"), facts, get);
}

// Returns the items of a request and of all that follow it. A single extension follows in the same list, so that a long
// chain does not become narrow; where there are several, each begins a list of its own.
function items(entry, entries, chosen) {
  const children = entries.filter(({ parent }) => parent === entry.id);
  const own = item(entry, children.length, entry.id === chosen);
  if (children.length === 1) return [own, ...items(children[0], entries, chosen)];
  own.append(...children.map((child) => el("ul", {}, items(child, entries, chosen))));
  return [own];
}

function item(entry, children, isChosen) {
  const { video, seed, model, error, state } = entry;
  const place = requestPage(entry);
  const facts = [
    state !== "done" && STATES[state],
    video?.duration && seconds(video.duration),
    video?.num_frames && plural(video.num_frames, "frame"),
    (seed ?? null) !== null && `seed ${seed}`,
    model,
    error,
    state === "done" && !video && (entry.erased_at ? "deleted" : "no file is stored"),
  ];
  return knot(
    picture(video?.url, place),
    isChosen ? "knot chosen" : "knot",
    el("a", { href: place, aria: isChosen ? { current: "true" } : {} }, entry.prompt || entry.endpoint),
    el("p", { class: "quiet" }, facts.filter(Boolean).join(" · ")),
    video && save(video.url, downloadName(entry), children ? "Download up to here" : "Download the whole"),
  );
}

const save = (path, name, text) =>
  el("button", { type: "button", class: "plain", onclick: () => download(path, name) }, text);

const knot = (image, name, ...about) => el("li", {}, el("div", { class: name }, image, el("div", {}, about)));

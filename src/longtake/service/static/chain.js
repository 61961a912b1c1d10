// The chain of extensions that a request belongs to, as a tree: each result that was extended again has its children
// below it. The file of each end is the whole video up to there.

import { ROOT, callJson } from "./api.js";
import { el } from "./dom.js";
import { download } from "./download.js";
import { picture } from "./thumbnail.js";
import { seconds } from "./words.js";

// Draws into `node` the tree with the request `id` in it, and shows the node.
export async function drawChain(node, id) {
  node.hidden = false;
  node.replaceChildren(el("h2", {}, "Chain"), el("p", { class: "quiet", role: "status" }, "Loading"));
  try {
    const entries = await wholeTree(id);
    const ids = new Set(entries.map((entry) => entry.id));
    const roots = entries.filter(({ parent }) => !ids.has(parent));
    const branches = roots.map((entry) => branch(entry, entries, id));
    node.replaceChildren(el("h2", {}, "Chain"), el("ul", { class: "tree" }, branches));
  } catch (error) {
    node.replaceChildren(el("p", { class: "error" }, error.message));
  }
}

// Returns the entries of all requests of the tree, oldest first.
async function wholeTree(id) {
  const entries = [];
  let before = null;
  do {
    const list = await callJson(`page/requests?tree=${id}${before === null ? "" : `&before=${before}`}`);
    entries.push(...list.requests);
    before = list.older;
  } while (before !== null);
  return entries.reverse();
}

function branch(entry, entries, chosen) {
  const children = entries.filter(({ parent }) => parent === entry.id).map((child) => branch(child, entries, chosen));
  const place = `${ROOT}models/${entry.endpoint}?request=${entry.id}`;
  const suffix = /\.\w+$/.exec(entry.video?.url ?? "")?.[0] ?? "";
  const save = () => download(entry.video.url, `longtake-${entry.id}${suffix}`);
  const facts = [entry.video?.duration && seconds(entry.video.duration), entry.model, entry.error];
  const text = children.length ? "Download up to here" : "Download the whole";
  const about = el(
    "div",
    {},
    el("a", { href: place }, entry.prompt || entry.endpoint),
    el("p", { class: "quiet" }, facts.filter(Boolean).join(" · ")),
    entry.video && el("button", { type: "button", class: "plain", onclick: save }, text),
  );
  const knot = el(
    "div",
    { class: entry.id === chosen ? "knot chosen" : "knot" },
    picture(entry.video?.url, place),
    about,
  );
  return el("li", {}, knot, children.length > 0 && el("ul", {}, children));
}

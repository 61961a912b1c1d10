// The chain of extensions that a request belongs to, as a tree: each result that was extended again has its children
// below it. The file of each end is the whole video up to there.

import { ROOT, callJson, mediaAddress } from "./api.js";
import { el } from "./dom.js";
import { picture } from "./thumbnail.js";
import { seconds } from "./words.js";

const MOST = 200;

// Draws into `node` the tree with the request `id` in it, and shows the node.
export async function drawChain(node, id) {
  node.hidden = false;
  node.replaceChildren(el("h2", {}, "Chain"), el("p", { class: "quiet", role: "status" }, "Loading"));
  try {
    let root = await callJson(`page/requests/${id}`);
    for (let up = 0; root.parent && up < MOST; up += 1) root = await callJson(`page/requests/${root.parent}`);
    node.replaceChildren(el("h2", {}, "Chain"), el("ul", { class: "tree" }, await branch(root, id, { left: MOST })));
  } catch (error) {
    node.replaceChildren(el("p", { class: "error" }, error.message));
  }
}

async function branch(entry, chosen, budget) {
  const children = [];
  for (const child of entry.children)
    if (budget.left-- > 0) children.push(await branch(await callJson(`page/requests/${child}`), chosen, budget));
  const place = `${ROOT}models/${entry.endpoint}?request=${entry.id}`;
  const download = async () => {
    const { address } = await mediaAddress(entry.video.url);
    el("a", { href: address, download: `longtake-${entry.id}.mp4` }).click();
  };
  return el(
    "li",
    {},
    el(
      "div",
      { class: entry.id === chosen ? "knot chosen" : "knot" },
      picture(entry.video?.url, place),
      el(
        "div",
        {},
        el("a", { href: place }, entry.prompt || entry.endpoint),
        el(
          "p",
          { class: "quiet" },
          [entry.video?.duration && seconds(entry.video.duration), entry.model, entry.error]
            .filter(Boolean)
            .join(" · "),
        ),
        entry.video
          ? el(
              "button",
              { type: "button", class: "plain", onclick: download },
              entry.children.length ? "Download up to here" : "Download the whole",
            )
          : null,
      ),
    ),
    children.length ? el("ul", {}, children) : null,
  );
}

// A shared result: the video and what everybody who has its address may see of the request that made it.

import { ROOT } from "./addresses.js";
import { callJson } from "./api.js";
import { by, el } from "./dom.js";
import { player } from "./player.js";
import { line, plural, seconds, seedWords, when } from "./words.js";

const key = location.pathname.slice(location.pathname.lastIndexOf("/") + 1);

async function start() {
  const found = await callJson(`page/shared/${key}`);
  const { video } = found;
  const { node, setJoint } = player(video.url, { source: null, video });
  if (found.joint) setJoint(found.joint);
  const facts = [
    `${video.width} × ${video.height}`,
    plural(video.num_frames, "frame"),
    seconds(video.duration),
    seedWords(found.seed),
    found.model,
    when(found.completed_at),
  ];
  const note = found.stand_in
    ? el("p", { class: "note" }, `${found.model}, a miniature, stands in for the model that the endpoint names.`)
    : "";
  by("shared").replaceChildren(
    el("h1", {}, found.prompt || "A longer video"),
    node,
    note,
    el("p", { class: "facts" }, line(facts)),
    el("p", {}, "Made with ", el("a", { href: `${ROOT}models/${found.endpoint}` }, found.endpoint), "."),
  );
  document.title = `${found.prompt || "A longer video"} | longtake`;
}

start().catch((error) => {
  const text = error.status === 404 ? "This result is not here, or not shared." : error.message;
  by("shared").replaceChildren(el("h1", {}, "Shared result"), el("p", { class: "empty", role: "alert" }, text));
});

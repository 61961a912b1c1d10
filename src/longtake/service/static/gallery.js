// The gallery: the models of this server, and the newest results.

import { ROOT, callJson, mediaAddress } from "./api.js";
import { by, el } from "./dom.js";
import { onRequests } from "./shell.js";
import { seconds } from "./words.js";

async function models() {
  const list = (await callJson("v1/models")).models;
  by("models").append(
    ...list.map(({ endpoint_id: id, metadata, longtake }) =>
      el(
        "li",
        { class: "card" },
        el("a", { href: `${ROOT}models/${id}` }, el("h2", {}, id)),
        el("p", {}, metadata.description),
        el(
          "p",
          { class: "badges" },
          el(
            "span",
            { class: longtake.stands_in_for ? "badge warn" : "badge" },
            longtake.stands_in_for ? `${longtake.model} stands in` : longtake.model,
          ),
        ),
      ),
    ),
  );
}

const shown = new Set();
onRequests(({ requests }) => {
  const done = requests.filter(({ video }) => video).slice(0, 8);
  by("recent").hidden = done.length === 0;
  for (const request of done)
    if (!shown.has(request.id)) {
      shown.add(request.id);
      tile(request);
    }
});

async function tile(request) {
  const { address } = await mediaAddress(request.video.url);
  by("results").append(
    el(
      "li",
      {},
      el(
        "a",
        { href: `${ROOT}models/${request.endpoint}?request=${request.id}` },
        el("video", {
          src: address,
          muted: true,
          loop: true,
          preload: "metadata",
          playsinline: true,
          onmouseenter: (event) => event.target.play().catch(() => {}),
          onmouseleave: (event) => event.target.pause(),
        }),
        el("span", {}, request.prompt || request.endpoint),
        el("span", { class: "quiet" }, seconds(request.video.duration ?? 0)),
      ),
    ),
  );
}

models().catch((error) => by("models").append(el("li", { class: "error" }, error.message)));

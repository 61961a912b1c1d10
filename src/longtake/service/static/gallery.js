// The gallery: the models of this server, each with its newest result among the last 24 requests or else an example, and
// the newest results of all.

import { ROOT, requestPage } from "./addresses.js";
import { callJson } from "./api.js";
import { by, el } from "./dom.js";
import { place } from "./list.js";
import { playable } from "./playable.js";
import { failToBegin, onRequests } from "./shell.js";
import { picture } from "./thumbnail.js";
import { STATES, perUnit, seconds, soundWords } from "./words.js";

const SHOWN = 8;
const cards = new Map();
const tiles = new Map();

async function start() {
  const [{ models }, { prices }] = await Promise.all([callJson("v1/models"), callJson("v1/models/pricing")]);
  const priceOf = new Map(prices.map((price) => [price.endpoint_id, price]));
  by("models").replaceChildren(...models.map((model) => card(model, priceOf.get(model.endpoint_id))));
  onRequests(draw);
}

function card({ endpoint_id: id, metadata, longtake }, price) {
  const standsIn = longtake.stands_in_for;
  const badge = el("span", { class: standsIn ? "badge warn" : "badge", title: longtake.note ?? "" });
  badge.textContent = standsIn ? `${longtake.model} stands in` : longtake.model;
  const screen = el("div", { class: "newest" });
  cards.set(id, { screen, example: () => example(longtake.sound), shown: null });
  const sound = el("span", { class: "badge" }, soundWords(longtake.sound));
  const facts = el("p", { class: "badges" }, el("span", { class: "badge" }, perUnit(price)), sound, badge);
  return el(
    "li",
    { class: "card" },
    screen,
    el("h2", {}, el("a", { href: `${ROOT}models/${id}` }, metadata.display_name)),
    el("p", { class: "quiet" }, el("code", {}, id)),
    el("p", {}, metadata.description),
    facts,
  );
}

// Returns the picture of a model that has made nothing here yet: one of the example, which a miniature made.
function example(sound) {
  const name = sound ? "ltx2" : "ltxv";
  const image = el("img", { src: `${ROOT}static/example_${name}.jpg`, alt: "", loading: "lazy" });
  return el("span", { class: "screen" }, image, el("span", { class: "label" }, `example of ${name}-tiny`));
}

function draw({ requests }) {
  const shown = requests
    .filter(({ video, state }) => video || state === "running" || state === "waiting")
    .slice(0, SHOWN);
  by("recent").hidden = shown.length === 0;
  place(
    by("results"),
    shown.map((request) => tile(request)),
  );
  for (const [id, known] of tiles)
    if (!known.node.isConnected) {
      known.stop();
      tiles.delete(id);
    }
  for (const [id, one] of cards) {
    const newest = requests.find(({ endpoint, video }) => endpoint === id && video)?.video.url ?? "";
    if (one.shown === newest) continue;
    one.shown = newest;
    one.screen.replaceChildren(newest ? picture(newest) : one.example());
  }
}

// Returns the tile of a request. It is filled again only when the request's state changes.
function tile(request) {
  const known = tiles.get(request.id) ?? emptyTile(request);
  tiles.set(request.id, known);
  const { video, state } = request;
  if (known.state === state) return known.node;
  known.state = state;
  known.stop();
  const screen = el("span", {}, picture(video?.url));
  const facts = video ? seconds(video.duration ?? 0) : STATES[state];
  const text = el("span", {}, request.prompt || request.endpoint);
  known.node.firstChild.replaceChildren(screen, text, el("span", { class: "quiet" }, facts));
  if (video) known.stop = playsUnderPointer(known.node, screen, video.url);
  return known.node;
}

function emptyTile(request) {
  const node = el("li", {}, el("a", { href: requestPage(request) }));
  return { node, state: null, stop: () => {} };
}

// Puts the video in the place of its picture when the pointer first comes over it. It plays while the pointer is there.
// Returns a function that ends this, which frees the video.
function playsUnderPointer(node, screen, path) {
  const leaving = new AbortController();
  const { signal } = leaving;
  async function begin() {
    const { address } = await playable(path, { signal });
    if (signal.aborted) return;
    const film = el("video", { src: address, muted: true, loop: true, playsinline: true });
    const play = () => film.play().catch(() => {});
    screen.replaceChildren(film);
    node.addEventListener("pointerenter", play, { signal });
    node.addEventListener("pointerleave", () => film.pause(), { signal });
    if (node.matches(":hover")) play();
  }
  node.addEventListener("pointerenter", () => begin().catch(() => {}), { once: true, signal });
  return () => leaving.abort();
}

start().catch(failToBegin);

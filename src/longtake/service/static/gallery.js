// The gallery: the models of this server, each with its newest result, and the newest results of all.

import { ROOT, callJson } from "./api.js";
import { by, el, toast } from "./dom.js";
import { playable } from "./player.js";
import { onRequests } from "./shell.js";
import { picture } from "./thumbnail.js";
import { STATES, seconds } from "./words.js";

const SHOWN = 8;
const cards = new Map();
const tiles = new Map();

async function start() {
  const { models } = await callJson("v1/models");
  by("models").append(...models.map(card));
  onRequests(draw);
}

function card({ endpoint_id: id, metadata, longtake }) {
  const standsIn = longtake.stands_in_for;
  const badge = el("span", { class: standsIn ? "badge warn" : "badge", title: longtake.note ?? "" });
  badge.textContent = standsIn ? `${longtake.model} stands in` : longtake.model;
  const screen = el("div", { class: "newest" });
  cards.set(id, screen);
  const title = el("h2", {}, el("a", { href: `${ROOT}models/${id}` }, id));
  return el(
    "li",
    { class: "card" },
    screen,
    title,
    el("p", {}, metadata.description),
    el("p", { class: "badges" }, badge),
  );
}

function draw({ requests }) {
  const shown = requests
    .filter(({ video, state }) => video || state === "running" || state === "waiting")
    .slice(0, SHOWN);
  by("recent").hidden = shown.length === 0;
  by("results").replaceChildren(...shown.map(tile));
  for (const [id, screen] of cards) {
    const newest = requests.find(({ endpoint, video }) => endpoint === id && video);
    if (!newest || screen.dataset.id === newest.id) continue;
    screen.dataset.id = newest.id;
    screen.replaceChildren(picture(newest.video.url));
  }
}

// Returns the tile of a request. It is made again only when the request's state changes.
function tile(request) {
  const known = tiles.get(request.id);
  if (known?.state === request.state) return known.node;
  const { video } = request;
  const screen = el("span", { class: "moving" }, picture(video?.url));
  const facts = video ? seconds(video.duration ?? 0) : STATES[request.state];
  const text = el("span", {}, request.prompt || request.endpoint);
  const place = `${ROOT}models/${request.endpoint}?request=${request.id}`;
  const node = el("li", {}, el("a", { href: place }, screen, text, el("span", { class: "quiet" }, facts)));
  if (video) node.addEventListener("pointerenter", () => play(screen, video.url), { once: true });
  tiles.set(request.id, { node, state: request.state });
  return node;
}

// Puts the video in the place of its picture. It plays while the pointer is over it.
async function play(screen, path) {
  const { address } = await playable(path);
  const film = el("video", { src: address, muted: true, loop: true, playsinline: true, autoplay: true });
  film.muted = true;
  screen.replaceChildren(film);
  screen.addEventListener("pointerenter", () => film.play().catch(() => {}));
  screen.addEventListener("pointerleave", () => film.pause());
}

start().catch((error) => toast(error.message, { failed: true }));

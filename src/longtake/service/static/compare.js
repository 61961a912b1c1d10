// Two results side by side: they play together, and a table shows what differs between their requests.

import "./shell.js";
import { ROOT, callJson } from "./api.js";
import { by, el } from "./dom.js";
import { playable } from "./player.js";
import { dollars, seconds } from "./words.js";

const AROUND_S = 1.5;
const films = [];
let joint = null;
let around = false;

async function start() {
  const query = new URLSearchParams(location.search);
  const ids = [query.get("a"), query.get("b")];
  for (const name of ["a", "b"]) by("choose").elements[name].value = query.get(name) ?? "";
  if (!ids.every(Boolean)) {
    by("choose").hidden = false;
    return;
  }
  const entries = await Promise.all(ids.map((id) => callJson(`page/requests/${id}`)));
  for (const entry of entries) {
    const { address } = await playable(entry.video.url);
    const film = el("video", {
      src: address,
      playsinline: true,
      loop: true,
      preload: "auto",
      aria: { label: entry.prompt || entry.endpoint },
    });
    film.muted = films.length > 0;
    films.push(film);
    by("pair").append(
      el(
        "figure",
        {},
        film,
        el(
          "figcaption",
          {},
          el("a", { href: `${ROOT}models/${entry.endpoint}?request=${entry.id}` }, entry.prompt || entry.endpoint),
        ),
      ),
    );
  }
  by("seek").max = Math.max(...entries.map(({ video }) => video.duration));
  by("differences").append(table(entries));
  callJson(`models/${entries[0].endpoint}/requests/${entries[0].id}/joint`)
    .then((found) => {
      joint = found;
    })
    .catch(() => {
      by("joint").hidden = true;
    });
}

// Returns a table of the facts of two requests, and of those fields of their inputs that differ.
function table(entries) {
  const facts = [
    ["Model", ({ model }) => model ?? ""],
    ["Seed", ({ seed }) => String(seed ?? "")],
    ["Size", ({ video }) => `${video.width} × ${video.height}`],
    ["Length", ({ video }) => `${video.num_frames} frames, ${seconds(video.duration)}`],
    ["Took", (one) => seconds(one.completed_at - one.started_at)],
    ["Price on fal", (one) => dollars(one.price_usd)],
  ];
  const flat = (value, prefix = "") =>
    Object.entries(value ?? {}).flatMap(([name, one]) =>
      one && typeof one === "object" && !Array.isArray(one)
        ? flat(one, `${prefix}${name}.`)
        : [[prefix + name, JSON.stringify(one)]],
    );
  const inputs = entries.map(({ input }) => new Map(flat(input)));
  const names = [...new Set(inputs.flatMap((one) => [...one.keys()]))].filter(
    (name) => inputs[0].get(name) !== inputs[1].get(name),
  );
  const rows = [
    ...facts.map(([name, text]) => [name, ...entries.map(text)]),
    ...names.map((name) => [name, ...inputs.map((one) => one.get(name) ?? "default")]),
  ];
  return el(
    "table",
    {},
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        ["", "First", "Second"].map((name) => el("th", { scope: "col" }, name)),
      ),
    ),
    el(
      "tbody",
      {},
      rows.map(([name, ...cells]) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, name),
          cells.map((text) => el("td", {}, text)),
        ),
      ),
    ),
  );
}

const seek = (at) => {
  for (const film of films) film.currentTime = Math.min(at, film.duration || at);
};
function tick() {
  const at = films[0].currentTime;
  if (around && Math.abs(at - joint.seconds) > AROUND_S) seek(Math.max(0, joint.seconds - AROUND_S));
  by("seek").value = at;
  if (films[1] && Math.abs(films[1].currentTime - at) > 0.15 && at < films[1].duration) films[1].currentTime = at;
  if (!films[0].paused) requestAnimationFrame(tick);
}
by("play").addEventListener("click", () => {
  const paused = films[0]?.paused;
  for (const film of films)
    if (paused) film.play().catch(() => {});
    else film.pause();
  by("play").textContent = paused ? "Pause" : "Play";
  if (paused) tick();
});
by("joint").addEventListener("click", () => {
  around = joint !== null && !around;
  by("joint").setAttribute("aria-pressed", String(around));
  if (around) seek(Math.max(0, joint.seconds - AROUND_S));
});
by("seek").addEventListener("input", () => seek(Number(by("seek").value)));
by("choose").addEventListener("submit", (event) => {
  event.preventDefault();
  location.search = new URLSearchParams(new FormData(by("choose")));
});
start().catch((error) => {
  by("pair").append(el("p", { class: "error" }, error.message));
  by("choose").hidden = false;
});

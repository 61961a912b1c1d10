// The player of a result: a bar with the joint on it, a loop around the joint, the source beside the result or in its
// place, and the sound as a waveform.

import { call, callJson, fileKey, mediaAddress } from "./api.js";
import { el } from "./dom.js";
import { drawWave, scaled } from "./wave.js";
import { seconds } from "./words.js";

const AROUND_S = 1.5;
const ASK_MS = 700;
const USUAL = /\.(mp4|webm)$/;
const FIELDS = "input:not([type=range], [type=checkbox]), textarea, select, dialog, [contenteditable]";
// Elements that have their own meaning for Space and the arrows.
const PRESSED = "input, button, a, summary, video, [role=tab], [role=slider]";

// Returns {node, setJoint, release} for the file at `path`, an address of this server. `source` is the address of the
// source's file or null, and `video` has the result's duration in seconds, its width and its height in pixels.
// `setJoint` marks the joint: {seconds, sound_seconds, new_first, fps}. `release` frees memory.
// The player can be shown at once: the videos come into it when the browser may play them.
export function player(path, { source, video: { duration, width, height } }) {
  const leaving = new AbortController();
  const { signal } = leaving;
  const releases = [];
  const film = el("video", {
    class: "film",
    width,
    height,
    playsinline: true,
    loop: true,
    preload: "auto",
    aria: { label: "The result" },
  });
  const origin = el("video", {
    class: "film origin",
    playsinline: true,
    muted: true,
    preload: "auto",
    aria: { label: "The source" },
  });
  const waiting = el("p", { class: "quiet", role: "status" });
  const shown = el("figure", {}, film, el("figcaption", {}, "Result"));
  const before = el("figure", { hidden: true }, origin, el("figcaption", {}, "Source"));
  const screens = el("div", { class: "screens" }, shown, before);
  const bar = el("input", {
    type: "range",
    class: "seek",
    min: 0,
    max: duration,
    step: 0.01,
    value: 0,
    aria: { label: "Position in seconds" },
  });
  const wave = el("canvas", { class: "wave", width: 1200, height: 96, hidden: true });
  const mark = el("span", { class: "joint", title: "The joint: here source and new frames meet" });
  const scale = el("p", { class: "quiet", hidden: true });
  const track = el("div", { class: "track" }, wave, bar, mark);
  mark.hidden = true;
  const clock = el("span", { class: "clock" });
  let joint = null;
  let peaks = null;
  let around = false;
  let view = "result";

  const play = el("button", { type: "button", onclick: toggle }, "Play");
  const loop = el(
    "button",
    { type: "button", class: "plain", hidden: true, aria: { pressed: "false" }, onclick: () => setAround(!around) },
    "Loop the joint",
  );
  const beside = el(
    "button",
    {
      type: "button",
      class: "plain",
      hidden: true,
      aria: { pressed: "false" },
      onclick: () => setView(view === "beside" ? "result" : "beside"),
    },
    "Beside the source",
  );
  const swap = el(
    "button",
    {
      type: "button",
      class: "plain",
      hidden: true,
      aria: { pressed: "false" },
      onclick: () => setView(view === "source" ? "result" : "source"),
    },
    "Source only",
  );
  const sound = el(
    "button",
    {
      type: "button",
      class: "plain",
      aria: { pressed: "false" },
      onclick: () => {
        film.muted = !film.muted;
        sound.setAttribute("aria-pressed", String(film.muted));
      },
    },
    "Mute",
  );
  const full = el("button", { type: "button", class: "plain", onclick: setFull }, "Full screen");
  const keys = el("p", { class: "quiet keys" });
  const node = el(
    "div",
    { class: "player", role: "group", tabindex: 0, aria: { label: "Player" } },
    screens,
    waiting,
    track,
    scale,
    el("div", { class: "actions" }, play, clock, loop, beside, swap, sound, full),
    keys,
  );

  function toggle() {
    if (film.paused) film.play().catch(() => {});
    else film.pause();
  }
  function setFull() {
    if (document.fullscreenElement) document.exitFullscreen();
    else if (node.requestFullscreen) node.requestFullscreen().catch(() => {});
    else film.webkitEnterFullscreen?.(); // telephones of Apple show only videos so
  }
  function setAround(wanted) {
    around = wanted && joint !== null;
    loop.setAttribute("aria-pressed", String(around));
    if (around) {
      film.currentTime = Math.max(0, joint.seconds - AROUND_S);
      film.play().catch(() => {});
    }
  }
  function setView(next) {
    view = next;
    before.hidden = view === "result";
    shown.hidden = view === "source";
    screens.classList.toggle("two", view === "beside");
    beside.setAttribute("aria-pressed", String(view === "beside"));
    swap.setAttribute("aria-pressed", String(view === "source"));
    follow();
  }
  // Shows in the source the frame that the result shows. Where the new frames come first, the source begins at the joint.
  function follow() {
    if (before.hidden) return;
    const wanted = film.currentTime - (joint?.new_first ? joint.seconds : 0);
    const at = Math.min(Math.max(0, wanted), origin.duration || Infinity);
    // A new seek would end one that is under way, and a slow source would never show a frame.
    if (!origin.seeking && Math.abs(origin.currentTime - at) > 0.08) origin.currentTime = at;
    if (film.paused || at !== wanted) origin.pause();
    else if (origin.paused && !origin.ended) origin.play().catch(() => {}); // an ended video would begin anew
  }
  function tick() {
    if (around && (film.currentTime > joint.seconds + AROUND_S || film.currentTime < joint.seconds - AROUND_S - 0.25))
      film.currentTime = Math.max(0, joint.seconds - AROUND_S);
    bar.value = film.currentTime;
    clock.textContent = `${film.currentTime.toFixed(2)} of ${seconds(duration)}`;
    follow();
    if (!film.paused) requestAnimationFrame(tick);
  }
  film.addEventListener("play", () => {
    play.textContent = "Pause";
    tick();
  });
  film.addEventListener("pause", () => {
    play.textContent = "Play";
    follow();
  });
  film.addEventListener("timeupdate", () => {
    if (film.paused) tick();
  });
  film.addEventListener("seeked", () => {
    if (film.paused) tick();
  });
  for (const name of ["loadedmetadata", "seeked"]) origin.addEventListener(name, follow);
  bar.addEventListener("input", (event) => {
    event.stopPropagation();
    film.currentTime = Number(bar.value);
  });
  // The keys work on the whole page, except in its fields and while the player is not shown.
  function press(event) {
    if (event.target.closest(FIELDS) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.defaultPrevented || !node.getClientRects().length) return;
    const step = (frames) => {
      film.pause();
      film.currentTime = Math.max(0, film.currentTime + frames / (joint?.fps ?? 25));
    };
    const actions = {
      " ": toggle,
      j: () => joint && setAround(!around),
      f: setFull,
      s: () => !swap.hidden && setView(view === "source" ? "result" : "source"),
      ArrowLeft: () => step(-1),
      ArrowRight: () => step(1),
    };
    const isLetter = /^[a-z]$/i.test(event.key);
    const action = actions[isLetter ? event.key.toLowerCase() : event.key];
    const isOwn = event.key !== " " && event.target !== bar && node.contains(event.target);
    if (!action || (!isLetter && !isOwn && event.target.closest(PRESSED))) return;
    event.preventDefault();
    action();
  }
  document.addEventListener("keydown", press, { signal });
  function nameKeys() {
    const named = [
      "Space plays",
      joint && "J loops the joint",
      "arrows step a frame",
      "F fills the screen",
      !swap.hidden && "S shows the source",
    ];
    keys.textContent = `${named.filter(Boolean).join(", ")}.`;
  }
  const draw = () =>
    peaks && drawWave(wave, peaks, joint && { share: joint.sound_seconds / duration, newFirst: joint.new_first });
  function setJoint(found) {
    joint = found;
    mark.style.left = `${(100 * joint.seconds) / duration}%`;
    mark.hidden = loop.hidden = false;
    nameKeys();
    draw();
  }
  function failed(error) {
    if (!signal.aborted) waiting.textContent = error.message;
  }
  // Puts the file at `path` into a video element. A usual file is there at once, because nearly every one can be played;
  // a copy takes its place if the browser cannot play it.
  async function load(screen, path, onShare) {
    const show = ({ address, release }) => {
      if (signal.aborted) release();
      else {
        releases.push(release);
        screen.src = address;
      }
    };
    const isUsual = USUAL.test(path);
    const [copy] = await Promise.all([
      copyOf(path, { signal, onShare }),
      isUsual ? mediaAddress(path, { signal }).then(show) : null,
    ]);
    if (copy || !isUsual) show(await mediaAddress(copy ?? path, { signal }));
  }
  const tell = (share) => {
    waiting.textContent = `Preparing a copy, ${Math.round(100 * share)} %`;
  };
  load(film, path, tell)
    .then(() => {
      waiting.textContent = "";
    })
    .catch(failed);
  if (source)
    load(origin, source)
      .then(() => {
        if (signal.aborted) return;
        beside.hidden = swap.hidden = false;
        nameKeys();
      })
      .catch(() => {}); // the source may be deleted
  callJson(`media/${fileKey(path)}/wave?points=600`, { signal })
    .then((found) => {
      sound.hidden = wave.hidden = !found.peaks;
      if (!found.peaks) return;
      const drawn = scaled(found.peaks);
      ({ peaks } = drawn);
      scale.hidden = drawn.decibels === 0;
      scale.textContent = `The sound is drawn scaled, ${drawn.decibels} dB louder than it is.`;
      draw();
    })
    .catch(() => {});
  nameKeys();
  tick();
  return {
    node,
    setJoint,
    release: () => {
      leaving.abort();
      for (const release of releases) release();
    },
  };
}

// Returns {address, release} of a file that the browser can play: the file itself, or a copy that the server makes of
// it. `onShare(share)` is called while the copy is made, with the share (0..1) that is done. `signal` ends the waiting.
export async function playable(path, options = {}) {
  return mediaAddress((await copyOf(path, options)) ?? path, options);
}

// Returns the address of the copy of a file that the browser cannot play, when it is made; null if no copy is needed.
async function copyOf(path, { signal, onShare = () => {} }) {
  const file = fileKey(path);
  const facts = file ? await callJson(`media/${file}/facts`, { signal }).catch(() => null) : null;
  signal?.throwIfAborted();
  if (!facts || facts.playable) return null;
  const copy = `media/${file}/copy`;
  for (;;) {
    const answer = await call(copy, { headers: { Range: "bytes=0-0" }, signal });
    if (answer.status !== 202) return copy;
    onShare((await answer.json()).share);
    await new Promise((resolve) => setTimeout(resolve, ASK_MS));
  }
}

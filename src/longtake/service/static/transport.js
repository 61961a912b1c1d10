// What all players have: buttons, keys and a bar that move one video, and a loop around the joints.

import { button, el } from "./dom.js";
import { timeline } from "./timeline.js";
import { seconds } from "./words.js";

const AROUND_S = 1.5;
const SLACK_S = 0.12;
const FIELDS = "input:not([type=range], [type=checkbox]), textarea, select, dialog, [contenteditable]";
// Elements that have their own meaning for Space and the arrows.
const PRESSED = "input, button, a, summary, video, [role=tab], [role=slider]";

// Returns {line, play, clock, loop, full, keys, setJoints, nameKeys, tick}: the bar (see `timeline`), elements for the
// player, among them the paragraph that names its keys, and functions.
//
// node: the element of the player, which fills the screen. The keys work while it is shown.
// film: the element of the video that they move.
// video: its duration in seconds and its number of frames.
// onTick: called whenever the film may show another frame.
// more: further keys, each {key, text, act, isThere}; `text` says what the key does.
// signal: ends the keys.
//
// setJoints(joints) marks the joints, each {seconds, name}, and moves a film that is still at its start to just before the
// first joint. `nameKeys` must be called when `isThere` of a key has changed, and `tick` once when the player is complete.
export function transport(node, film, video, { onTick, more, signal }) {
  const { duration, num_frames: count } = video;
  const line = timeline(duration, (at) => (film.currentTime = at));
  const clock = el("span", { class: "clock", title: "The arrow keys step a frame" });
  const keys = el("p", { class: "quiet keys" });
  const play = button("Play", toggle, keyed("Play or pause", "Space"));
  const loop = pressable(shortened("Loop", " the joint"), () => setAround(!isAround), keyed("Loop the joint", "J"));
  const filling = { class: "plain", ...keyed("Full screen", "F") };
  const full = button(shortened("Full", " screen"), () => fill(node, film), filling);
  let joints = [];
  let isAround = false;
  let next = 0; // the number of the next animation frame, for which `tick` waits
  loop.hidden = true;

  function toggle() {
    if (film.paused) film.play().catch(() => {});
    else film.pause();
  }
  const first = () => Math.max(0, Math.min(...joints.map((one) => one.seconds)) - AROUND_S);
  const last = () => Math.max(...joints.map((one) => one.seconds)) + AROUND_S;
  function setAround(wanted) {
    isAround = wanted;
    loop.setAttribute("aria-pressed", String(isAround));
    if (!isAround) return;
    film.currentTime = first();
    film.play().catch(() => {});
  }
  function setJoints(found) {
    joints = found;
    line.mark(joints);
    loop.hidden = false;
    nameKeys();
    if (film.paused && film.currentTime === 0) film.currentTime = first(); // nobody has played it or moved it yet
    tick();
  }
  function step(frames) {
    film.pause();
    film.currentTime = Math.max(0, film.currentTime + (frames * duration) / count);
  }
  function tick() {
    cancelAnimationFrame(next); // a film that is paused and plays on at once would be followed twice
    const at = film.currentTime;
    if (isAround && (at > last() || at < first() - 0.25)) film.currentTime = first();
    line.show(film.currentTime);
    clock.textContent = `${film.currentTime.toFixed(2)} of ${seconds(duration)}`;
    onTick();
    if (!film.paused) next = requestAnimationFrame(tick);
  }
  film.addEventListener("play", () => {
    play.textContent = "Pause";
    tick();
  });
  film.addEventListener("pause", () => {
    play.textContent = "Play";
    onTick();
  });
  for (const name of ["timeupdate", "seeked"]) film.addEventListener(name, () => film.paused && tick());

  const named = [
    { key: " ", text: "Space plays", act: toggle },
    { key: "j", text: "J loops the joint", act: () => setAround(!isAround), isThere: () => !loop.hidden },
    { key: "ArrowLeft", text: "", act: () => step(-1) },
    { key: "ArrowRight", text: "arrows step a frame", act: () => step(1) },
    { key: "f", text: "F fills the screen", act: () => fill(node, film) },
    ...more,
  ];
  const there = () => named.filter(({ isThere = () => true }) => isThere());
  function nameKeys() {
    const texts = there().map(({ text }) => text);
    keys.textContent = `${texts.filter(Boolean).join(", ")}.`;
  }
  // The keys work on the whole page, except in its fields and while the player is not shown.
  function press(event) {
    if (event.target.closest(FIELDS) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.defaultPrevented || !node.getClientRects().length) return;
    const isLetter = /^[a-z]$/i.test(event.key);
    const pressed = isLetter ? event.key.toLowerCase() : event.key;
    const found = there().find(({ key }) => key === pressed);
    const isOwn = event.key !== " " && !event.target.matches("input") && node.contains(event.target);
    if (!found || (!isLetter && !isOwn && event.target.closest(PRESSED))) return;
    event.preventDefault();
    found.act();
  }
  document.addEventListener("keydown", press, { signal });
  nameKeys();
  return { line, play, clock, loop, full, keys, setJoints, nameKeys, tick };
}

// Returns the attributes of a button that says which key does the same.
export const keyed = (text, key) => ({ title: `${text} (${key})`, "aria-keyshortcuts": key });

// Returns a button that is pressed or not, which it is not at first. `text` is its text or what `shortened` returns, and
// `more` are further attributes.
export const pressable = (text, act, more = {}) =>
  button(text, act, { class: "plain", aria: { pressed: "false" }, ...more });

// Returns a text in two parts for a button. On a phone only the first one is seen; a screen reader says both.
export const shortened = (text, rest) => [text, el("span", { class: "rest" }, rest)];

// Lets a video show its frame at `wanted` seconds, and play on from there while `leader` plays. It stands still before its
// beginning and after its end. This must be called again when the video has sought.
export function follow(leader, film, wanted) {
  const at = Math.min(Math.max(0, wanted), film.duration || Infinity);
  // A new seek would end one that is under way, and a slow video would never show a frame.
  if (!film.seeking && Math.abs(film.currentTime - at) > (leader.paused ? 0.005 : SLACK_S)) film.currentTime = at;
  if (leader.paused || at !== wanted) film.pause();
  else if (film.paused && !film.ended) film.play().catch(() => {}); // an ended video would begin anew
}

function fill(node, film) {
  if (document.fullscreenElement) document.exitFullscreen();
  else if (node.requestFullscreen) node.requestFullscreen().catch(() => {});
  else film.webkitEnterFullscreen?.(); // telephones of Apple show only videos so
}

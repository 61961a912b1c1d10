// Two results that play together: beside each other, or one at a time in the same place.

import { aboutPath } from "./addresses.js";
import { callJson } from "./api.js";
import { copyNote } from "./copy_note.js";
import { button, el } from "./dom.js";
import { showIn } from "./playable.js";
import { loadSound } from "./timeline.js";
import { follow, keyed, transport } from "./transport.js";

const NAMES = ["First", "Second"];
const SAME_S = 0.02;

// Returns the element with two results. `entries` are their requests, as `page/requests/<id>` describes them, and
// `captions` two elements that say which they are.
export function pair(entries, captions) {
  const { signal } = new AbortController(); // the pair lasts as long as its page
  const films = entries.map(({ video: { width, height } }, index) => {
    const looks = { class: "film", width, height, aria: { label: NAMES[index] } };
    return el("video", { ...looks, playsinline: true, preload: "auto" });
  });
  captions.forEach((caption, index) => caption.prepend(el("strong", {}, NAMES[index]), " "));
  const figures = films.map((film, index) => el("figure", {}, film, captions[index]));
  const screens = el("div", { class: "pair" }, figures);
  const node = el("div", { class: "player", role: "group", tabindex: 0, aria: { label: "Player" } }, screens);
  const durations = entries.map(({ video }) => video.duration);
  const longer = durations[1] > durations[0] ? 1 : 0;
  const [leader, other] = [films[longer], films[1 - longer]];
  const sounds = [null, null];
  const joints = [null, null];
  let view = null; // the number of the only one that is shown, or null
  let heard = 0; // the number of the one whose sound is heard, or null

  const each = NAMES.map((name, index) => [name, index]);
  const views = choice("Show", [["Side by side", null, "B"], ...each.map((one) => [...one, "S"])], setView);
  const tracks = choice("Sound", [...each, ["None", null]], setSound);
  const more = [
    { key: "s", text: "S changes between first and second", act: () => setView(view === 0 ? 1 : 0) },
    { key: "b", text: "B shows both", act: () => setView(null) },
  ];
  leader.loop = true;
  const showOther = () => follow(leader, other, leader.currentTime);
  const control = transport(node, leader, entries[longer].video, { onTick: showOther, more, signal });
  const { line, play, clock, loop, full, keys } = control;
  play.classList.add("main");
  const buttons = el("div", { class: "actions controls" }, play, clock, loop, views.node, tracks.node, full);
  node.append(line.node, buttons, keys);
  for (const name of ["loadedmetadata", "seeked"]) other.addEventListener(name, showOther);

  function setView(next) {
    view = next;
    views.show(view);
    screens.classList.toggle("one", view !== null);
    // A hidden video keeps its frame, so that changing to it does not flicker.
    figures.forEach((figure, index) => figure.classList.toggle("away", view !== null && view !== index));
    if (view !== null && heard !== null) setSound(view);
  }
  function setSound(next) {
    heard = next;
    tracks.show(heard);
    films.forEach((film, index) => (film.muted = index !== heard));
    line.draw(sounds[heard] ?? null, joints[heard] ?? null);
  }
  function markJoints() {
    const known = joints.flatMap((joint, index) => (joint ? [{ ...joint, name: NAMES[index] }] : []));
    const isSame = known.length === 2 && Math.abs(known[0].seconds - known[1].seconds) < SAME_S;
    if (known.length) control.setJoints(isSame ? known.slice(0, 1) : known);
  }
  entries.forEach(async ({ id, endpoint, video }, index) => {
    const [joint, sound] = await Promise.all([
      callJson(`${aboutPath(endpoint, id)}/joint?figures=0`).catch(() => null), // an older request has no plan
      loadSound(video.url, video.duration).catch(() => null),
    ]);
    joints[index] = joint;
    sounds[index] = sound;
    markJoints();
    if (heard === index) setSound(heard);
  });
  films.forEach((film, index) => load(film, entries[index].video.url, captions[index], signal));
  setView(null);
  setSound(0);
  control.tick();
  return node;
}

// Puts a file into a video element. The caption tells how much is done of a copy that the browser can play.
async function load(film, path, caption, signal) {
  const { node, onShare, end } = copyNote();
  caption.append(" ", node);
  await showIn(film, path, { signal, onShare }).then(
    () => end(),
    (error) => end(error.message),
  );
}

// Returns {node, show} for buttons of which one is chosen. `options` are a text and a value for each, and the key that
// chooses it, if there is one.
function choice(label, options, choose) {
  const buttons = options.map(([text, value, key]) =>
    button(text, () => choose(value), key ? keyed(text, key) : {}),
  );
  const name = el("span", { class: "quiet" }, label);
  const node = el("div", { class: "choice", role: "group", aria: { label } }, name, buttons);
  const show = (value) =>
    options.forEach(([, one], index) => buttons[index].setAttribute("aria-pressed", String(one === value)));
  return { node, show };
}

// The player of a result: a bar with the joint on it, a loop around the joint, the source beside the result or in its
// place, and the sound as a waveform.

import { copyNote } from "./copy_note.js";
import { el } from "./dom.js";
import { showIn } from "./playable.js";
import { loadSound } from "./timeline.js";
import { follow, keyed, pressable, shortened, transport } from "./transport.js";

// Returns {node, setJoint, release} for the file at `path`, an address of this server. `source` is the address of the
// source's file or null. `video` has the result's duration in seconds, its number of frames, and its width and height in
// pixels.
// `setJoint` marks the joint: {seconds, sound_seconds, new_first}. `release` frees memory.
// The player can be shown at once: the videos come into it when the browser may play them.
export function player(path, { source, video }) {
  const { duration, width, height } = video;
  const leaving = new AbortController();
  const { signal } = leaving;
  const common = { playsinline: true, preload: "auto" };
  const film = el("video", { class: "film", width, height, loop: true, ...common, aria: { label: "The result" } });
  const origin = el("video", { class: "film origin", muted: true, ...common, aria: { label: "The source" } });
  const waiting = copyNote();
  const shown = el("figure", {}, film, el("figcaption", {}, "Result"));
  const before = el("figure", { hidden: true }, origin, el("figcaption", {}, "Source"));
  const screens = el("div", { class: "screens" }, shown, before);
  const node = el("div", { class: "player", role: "group", tabindex: 0, aria: { label: "Player" } }, screens, waiting.node);
  let joint = null;
  let wave = null;
  let view = "result";

  const beside = pressable("Side by side", toggleBeside, { title: "The source beside the result" });
  const swap = pressable(shortened("Source", " only"), toggleSource, keyed("Source only", "S"));
  const sound = pressable("Mute", () => {
    film.muted = !film.muted;
    sound.setAttribute("aria-pressed", String(film.muted));
  });
  beside.hidden = swap.hidden = true;
  const sourceKey = { key: "s", text: "S shows the source", act: toggleSource, isThere: () => !swap.hidden };
  const control = transport(node, film, video, { onTick: showSource, more: [sourceKey], signal });
  const { line, play, clock, loop, full, keys } = control;
  node.append(line.node, el("div", { class: "actions controls" }, play, clock, loop, beside, swap, sound, full), keys);

  function toggleBeside() {
    setView(view === "beside" ? "result" : "beside");
  }
  function toggleSource() {
    setView(view === "source" ? "result" : "source");
  }
  function setView(next) {
    view = next;
    before.hidden = view === "result";
    shown.hidden = view === "source";
    screens.classList.toggle("two", view === "beside");
    beside.setAttribute("aria-pressed", String(view === "beside"));
    swap.setAttribute("aria-pressed", String(view === "source"));
    showSource();
  }
  // Shows in the source the frame that the result shows. Where the new frames come first, the source begins at the joint.
  function showSource() {
    if (!before.hidden) follow(film, origin, film.currentTime - (joint?.new_first ? joint.seconds : 0));
  }
  for (const name of ["loadedmetadata", "seeked"]) origin.addEventListener(name, showSource);
  function setJoint(found) {
    joint = found;
    control.setJoints([joint]);
    line.draw(wave, joint);
  }
  showIn(film, path, { signal, onShare: waiting.onShare }).then(
    () => waiting.end(),
    (error) => signal.aborted || waiting.end(error.message),
  );
  if (source)
    showIn(origin, source, { signal })
      .then(() => {
        if (signal.aborted) return;
        beside.hidden = swap.hidden = false;
        control.nameKeys();
      })
      .catch(() => {}); // the source may be deleted
  loadSound(path, duration, signal)
    .then((found) => {
      wave = found;
      sound.hidden = !wave;
      line.draw(wave, joint);
    })
    .catch(() => {});
  control.tick();
  return { node, setJoint, release: () => leaving.abort() };
}

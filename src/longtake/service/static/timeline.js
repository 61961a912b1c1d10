// The bar of a player: the position, the joints, and the sound as a waveform.

import { callJson } from "./api.js";
import { el } from "./dom.js";
import { fileKey } from "./stored_files.js";
import { drawWave, scaled } from "./wave.js";

// Returns {node, show, mark, draw} for a bar of `duration` seconds. `seek(at)` is called when a person moves it.
//
// show(at): moves it.
// mark(joints): marks joints, each {seconds, name}. A name is written only if there are several joints.
// draw(sound, joint): draws what `loadSound` returned; nothing if it is null. `joint` is null, or has the members
//     `sound_seconds` and `new_first`.
export function timeline(duration, seek) {
  const range = { min: 0, max: duration, step: 0.01, value: 0 };
  const bar = el("input", { type: "range", class: "seek", ...range, aria: { label: "Position in seconds" } });
  const wave = el("canvas", { class: "wave", width: 1200, height: 96, hidden: true });
  const marks = el("div", { class: "marks" });
  const scale = el("p", { class: "quiet", hidden: true });
  const track = el("div", { class: "track" }, wave, bar, marks);
  const node = el("div", { class: "timeline" }, track, scale);
  bar.addEventListener("input", (event) => {
    event.stopPropagation();
    seek(Number(bar.value));
  });

  function mark(joints) {
    const title = "The joint: here source and new frames meet";
    const one = ({ name }) => el("span", { class: "joint", title }, joints.length > 1 ? name : "");
    const nodes = joints.map(one);
    nodes.forEach((span, index) => (span.style.left = `${(100 * joints[index].seconds) / duration}%`));
    marks.replaceChildren(...nodes);
    track.classList.toggle("named", joints.length > 1);
  }

  function draw(sound, joint) {
    wave.hidden = !sound;
    scale.hidden = !sound?.decibels;
    if (!sound) return;
    scale.textContent = `The sound is drawn scaled, ${sound.decibels} dB louder than it is.`;
    wave.style.width = `${(100 * sound.duration) / duration}%`;
    drawWave(wave, sound.peaks, joint && { share: joint.sound_seconds / sound.duration, newFirst: joint.new_first });
  }
  return { node, show: (at) => (bar.value = at), mark, draw };
}

// Returns {peaks, decibels, duration} of the sound of the file at `path`, for a bar; null if it has none. `duration` is
// that of the video in seconds.
export async function loadSound(path, duration, signal) {
  const { peaks } = await callJson(`media/${fileKey(path)}/wave?points=600`, { signal });
  return peaks ? { ...scaled(peaks), duration } : null;
}

// The example that the playground shows before the first request: a source, a prompt, and what a miniature made of them.

import { ROOT } from "./addresses.js";
import { button, el } from "./dom.js";
import { objectUrl } from "./object_urls.js";
import { plural } from "./words.js";

const file = async (name) => {
  const answer = await fetch(`${ROOT}static/${name}`);
  if (!answer.ok) throw new Error(`The example could not be loaded: the server answered ${answer.status}.`);
  return answer;
};

async function source() {
  const content = await (await file("example_source.mp4")).blob();
  return new File([content], "city.mp4", { type: "video/mp4" });
}

// Returns {node, release} of the example for models with or without sound. When the person wants to run it,
// `tryIt(load, prompt)` is called with a function that loads the example's source, as a file, and with its prompt.
export function exampleView(sound, tryIt) {
  const name = sound ? "ltx2" : "ltxv";
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const film = el("video", {
    class: "film",
    poster: `${ROOT}static/example_${name}.jpg`,
    muted: true,
    loop: true,
    controls: true,
    playsinline: true,
    aria: { label: "An example of a longer video" },
  });
  const parts = el("div", { class: "parts", aria: { hidden: "true" } });
  const prompt = el("p", {});
  const note = el("p", { class: "note" });
  const trying = button("Try it with this source", () => tryIt(source, words), { hidden: true });
  const leaving = new AbortController();
  const { signal } = leaving;
  let words = "";

  async function load() {
    const made = (await (await file("examples.json")).json())[name];
    const share = made.source_frames / made.num_frames;
    words = made.prompt;
    prompt.append(el("span", { class: "quiet" }, "Prompt: "), words);
    const count = plural(made.num_frames - made.source_frames, "frame");
    note.textContent =
      `The last ${count} were made by ${made.model}, a miniature in the package. The models that it stands in for are ` +
      "far larger.";
    parts.append(part("source", share), part("new", 1 - share));
    trying.hidden = false;
    // A video that comes as a whole can be sought in, also where the server sends no parts of it.
    const content = await (await file(`example_${name}.mp4`)).blob();
    if (signal.aborted) return;
    film.src = objectUrl(content, signal).address;
    if (!isCalm) film.play().catch(() => {});
  }

  load().catch((error) => (note.textContent = error.message));
  const node = el(
    "div",
    { class: "result example" },
    film,
    parts,
    prompt,
    note,
    el("div", { class: "actions" }, trying),
  );
  return { node, release: () => leaving.abort() };
}

// Returns a part of the line below the film, as long as its share of the film.
function part(text, share) {
  const node = el("span", { class: text }, text);
  node.style.flex = String(share);
  return node;
}

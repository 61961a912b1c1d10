// Small pictures of stored videos and images.

import { fileKey, mediaAddress } from "./api.js";
import { el } from "./dom.js";

// Returns a box with the middle frame of the file at `path` (an address of this server, or null). With `place` it is a
// link to that address.
export function picture(path, place) {
  const box = el(place ? "a" : "span", {
    class: fileKey(path) ? "screen loading" : "screen",
    href: place,
    tabindex: place && -1,
    aria: { hidden: "true" },
  });
  const key = fileKey(path);
  if (key) fill(box, `media/${key}/strip?frames=1&height=108`);
  return box;
}

// Returns a box with the image at `path`, an address of this server.
export function still(path) {
  const box = el("span", { class: "screen loading", aria: { hidden: "true" } });
  fill(box, path);
  return box;
}

// Shows the image at `path` in a box. The image is loaded when the box is nearly in view.
async function fill(box, path) {
  const ended = () => box.classList.remove("loading");
  try {
    const { address, release } = await mediaAddress(path);
    const end = () => {
      release();
      ended();
    };
    box.append(el("img", { src: address, alt: "", loading: "lazy", onload: end, onerror: end }));
  } catch {
    ended();
  }
}

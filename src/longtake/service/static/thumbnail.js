// A small picture of a stored video.

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
  const ended = () => box.classList.remove("loading");
  if (key)
    mediaAddress(`media/${key}/strip?frames=1&height=108`)
      .then(({ address, release }) => {
        const end = () => {
          release();
          ended();
        };
        box.append(el("img", { src: address, alt: "", loading: "lazy", onload: end, onerror: end }));
      })
      .catch(ended);
  return box;
}

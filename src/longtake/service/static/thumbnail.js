// A small picture of a stored video.

import { fileKey, mediaAddress } from "./api.js";
import { el } from "./dom.js";

// Returns a box with the middle frame of the file at `path` (an address of this server, or null). With `place` it is a
// link to that address.
export function picture(path, place) {
  const box = el(place ? "a" : "span", {
    class: "screen",
    href: place,
    tabindex: place && -1,
    aria: { hidden: "true" },
  });
  const key = fileKey(path);
  if (key)
    mediaAddress(`media/${key}/strip?frames=1&height=108`)
      .then(({ address, release }) =>
        box.append(el("img", { src: address, alt: "", loading: "lazy", onload: release, onerror: release })),
      )
      .catch(() => {});
  return box;
}

// Small pictures of stored videos and images. Each is loaded when it is nearly in view. Its blob is freed as
// soon as it is shown.

import { el } from "./dom.js";
import { mediaAddress } from "./object_urls.js";
import { fileKey } from "./stored_files.js";

const NEAR = "300px";
const paths = new WeakMap(); // box -> the address of its picture

const seen = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      fill(target, paths.get(target));
    }
  },
  { rootMargin: NEAR },
);

// Returns a box with the middle frame of the file at `path` (an address of this server, or null). With `place` it is a
// link to that address.
export function picture(path, place) {
  const key = fileKey(path);
  return box(key && `media/${key}/strip?frames=1&height=108`, place);
}

// Returns a box with the image at `path`, an address of this server.
export const still = (path) => box(path);

function box(path, place) {
  const node = el(place ? "a" : "span", {
    class: path ? "screen loading" : "screen",
    href: place,
    tabindex: place && -1,
    aria: { hidden: "true" },
  });
  if (path) {
    paths.set(node, path);
    seen.observe(node);
  }
  return node;
}

async function fill(node, path) {
  const ended = () => node.classList.remove("loading");
  try {
    const { address, release } = await mediaAddress(path);
    const end = () => {
      release();
      ended();
    };
    node.append(el("img", { src: address, alt: "", onload: end, onerror: end }));
  } catch {
    ended();
  }
}

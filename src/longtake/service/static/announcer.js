// Speaks a text that changes often, such as a price, to screen readers: only when it has come to rest.

import { el } from "./dom.js";

const REST_MS = 1500;

// Returns {node, say}: an element that only screen readers see, and the function `say(text)`. The text is spoken when
// nothing else was said for a while, unless it was the last that was spoken.
export function announcer() {
  const node = el("p", { class: "unseen", role: "status" });
  let timer = 0;
  let newest = "";
  function say(text) {
    if (text === newest) return;
    newest = text;
    clearTimeout(timer);
    timer = setTimeout(() => node.textContent !== newest && (node.textContent = newest), REST_MS);
  }
  return { node, say };
}

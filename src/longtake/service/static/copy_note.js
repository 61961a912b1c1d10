// The line at a video that tells how much is done of a copy which the browser can play, or why the video is not shown.

import { announcer } from "./announcer.js";
import { el } from "./dom.js";

// Returns {node, onShare, end}: the line, which is empty at first; `onShare(share)` tells the share (0..1) of the copy, as
// `playable` calls it; and `end(text)` tells an error, or nothing more.
export function copyNote() {
  const seen = el("span", {});
  const speech = announcer();
  const node = el("span", { class: "quiet" }, seen, speech.node);
  function onShare(share) {
    seen.textContent = `Preparing a copy, ${Math.round(100 * share)} %`;
    speech.say("Preparing a copy"); // without the share, which changes all the time
  }
  function end(text = "") {
    seen.textContent = text;
    speech.say(text);
  }
  return { node, onShare, end };
}

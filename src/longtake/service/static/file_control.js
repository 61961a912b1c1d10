// The control of a field that names a video or an image: drop, paste, choose, or enter a URL, with a preview.

import { callJson, fileAddress, fileKey, mediaAddress } from "./api.js";
import { el } from "./dom.js";
import { upload } from "./upload.js";
import { seconds } from "./words.js";

// Returns {node, get, set} for a field of the kind "video" or "image".
export function fileControl(field, id) {
  const picture = field.kind === "image";
  let value;
  let stop = new AbortController();
  const input = el("input", { id, type: "file", accept: picture ? "image/*" : "video/*,image/gif,image/webp,.mkv,.mov,.avi,.mts,.ts" });
  const url = el("input", { type: "url", placeholder: "or paste a URL", aria: { label: `URL of the ${field.kind}` } });
  const bar = el("progress", { max: 1, hidden: true, aria: { label: "Upload" } });
  const facts = el("p", { class: "facts" });
  const view = el("div", { class: "view" });
  const clear = el("button", { type: "button", class: "plain", hidden: true, onclick: () => choose(undefined) }, "Remove");
  const node = el("div", { class: "drop" }, view, el("div", { class: "row" }, el("span", { class: "button" }, `Choose or drop ${picture ? "an image" : "a video"}`, input), url, clear), bar, facts);
  const changed = () => node.dispatchEvent(new Event("input", { bubbles: true }));

  async function show() {
    view.replaceChildren();
    facts.textContent = "";
    clear.hidden = value === undefined;
    if (!fileKey(value)) { if (value) facts.textContent = value; return; }
    const shown = value;
    try {
      const { address } = await mediaAddress(fileAddress(value));
      if (shown !== value) return;
      view.append(picture ? el("img", { src: address, alt: "The chosen image" }) : el("video", { src: address, muted: true, controls: true, preload: "metadata", playsinline: true, aria: { label: "The chosen video" } }));
      if (!picture) {
        const found = await callJson(`media/${fileKey(value)}/facts`);
        if (shown === value) facts.textContent = `${found.width} × ${found.height}, ${found.num_frames} frames, ${seconds(found.duration)}`;
      }
    } catch (error) { facts.textContent = error.message; }
  }

  function choose(next) {
    stop.abort();
    value = next || undefined;
    url.value = value && !fileKey(value) ? value : "";
    changed();
    show();
  }

  async function send(file) {
    stop.abort();
    stop = new AbortController();
    bar.hidden = false;
    bar.value = 0;
    facts.textContent = `Sending ${file.name || "the pasted file"}`;
    try {
      choose(await upload(file, (share) => { bar.value = share; }, stop.signal));
    } catch (error) {
      if (error.name !== "AbortError") facts.textContent = error.message;
    } finally {
      bar.hidden = true;
    }
  }

  input.addEventListener("change", () => { if (input.files.length) send(input.files[0]); input.value = ""; });
  input.addEventListener("input", (event) => event.stopPropagation());
  url.addEventListener("change", () => choose(url.value.trim()));
  node.addEventListener("dragover", (event) => { event.preventDefault(); node.classList.add("over"); });
  node.addEventListener("dragleave", () => node.classList.remove("over"));
  node.addEventListener("drop", (event) => {
    event.preventDefault();
    node.classList.remove("over");
    if (event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
    else choose(event.dataTransfer.getData("text/uri-list") || event.dataTransfer.getData("text/plain"));
  });
  return { node, get: () => value, set: choose, send };
}

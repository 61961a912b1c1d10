// The control of a field that names a video or an image: drop, paste, choose, or enter a URL, with a preview.

import { callJson, fileAddress, fileKey, mediaAddress } from "./api.js";
import { el } from "./dom.js";
import { playable } from "./player.js";
import { upload } from "./upload.js";
import { seconds } from "./words.js";

// Returns {node, get, set, send, onFacts, onSettings} for a field of the kind "video" or "image". `send(file)` uploads a
// file. `onFacts` sets the function that gets the facts of each new video, or null where there are none, and
// `onSettings` the one that gets the settings in a file that this server made and a person chose.
export function fileControl(field, id) {
  const picture = field.kind === "image";
  let value;
  let stop = new AbortController();
  let tellFacts = () => {};
  let tellSettings = () => {};
  let isSent = false;
  const input = el("input", {
    id,
    type: "file",
    accept: picture ? "image/*" : "video/*,image/gif,image/webp,.mkv,.mov,.avi,.mts,.ts",
  });
  const url = el("input", { type: "url", placeholder: "or paste a URL", aria: { label: `URL of the ${field.kind}` } });
  const bar = el("progress", { max: 1, hidden: true, aria: { label: "Upload" } });
  const facts = el("p", { class: "facts" });
  const view = el("div", { class: "view" });
  const clear = el(
    "button",
    { type: "button", class: "plain", hidden: true, onclick: () => choose(undefined) },
    "Remove",
  );
  const node = el(
    "div",
    { class: "drop" },
    view,
    el(
      "div",
      { class: "row" },
      el("span", { class: "button" }, `Choose or drop ${picture ? "an image" : "a video"}`, input),
      url,
      clear,
    ),
    bar,
    facts,
  );
  const changed = () => node.dispatchEvent(new Event("input", { bubbles: true }));

  async function show() {
    const shown = value;
    view.replaceChildren();
    facts.textContent = "";
    clear.hidden = shown === undefined;
    tellFacts(null);
    if (!shown) return;
    try {
      // A stranger's file is shown from the copy that the server fetched and keeps.
      const own = fileKey(shown) ? fileAddress(shown) : (await callJson("media/import", { json: { url: shown } })).file;
      if (shown !== value) return;
      if (picture) view.append(el("img", { src: (await mediaAddress(own)).address, alt: "The chosen image" }));
      else await showVideo(own, shown);
    } catch (error) {
      if (shown === value) facts.textContent = error.message;
    }
  }

  async function showVideo(own, shown) {
    const found = await callJson(`media/${fileKey(`/${own}`)}/facts`);
    if (shown !== value) return;
    facts.textContent = `${found.width} × ${found.height}, ${found.num_frames} frames, ${seconds(found.duration)}${found.has_audio ? "" : ", no sound"}`;
    tellFacts(found, own);
    if (isSent && found.settings) tellSettings(found.settings);
    const { address } = await playable(own);
    if (shown === value)
      view.append(
        el("video", {
          src: address,
          muted: true,
          controls: true,
          preload: "metadata",
          playsinline: true,
          aria: { label: "The chosen video" },
        }),
      );
  }

  function choose(next) {
    stop.abort();
    if (next === value) return;
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
      const url = await upload(
        file,
        (share) => {
          bar.value = share;
        },
        stop.signal,
      );
      isSent = true;
      choose(url);
    } catch (error) {
      if (error.name !== "AbortError") facts.textContent = error.message;
    } finally {
      bar.hidden = true;
    }
  }

  input.addEventListener("change", () => {
    if (input.files.length) send(input.files[0]);
    input.value = "";
  });
  input.addEventListener("input", (event) => event.stopPropagation());
  url.addEventListener("change", () => choose(url.value.trim()));
  node.addEventListener("dragover", (event) => {
    event.preventDefault();
    node.classList.add("over");
  });
  node.addEventListener("dragleave", () => node.classList.remove("over"));
  node.addEventListener("drop", (event) => {
    event.preventDefault();
    node.classList.remove("over");
    if (event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
    else choose(event.dataTransfer.getData("text/uri-list") || event.dataTransfer.getData("text/plain"));
  });
  return {
    node,
    get: () => value,
    set: choose,
    send,
    onFacts: (tell) => {
      tellFacts = tell;
    },
    onSettings: (tell) => {
      tellSettings = tell;
    },
  };
}

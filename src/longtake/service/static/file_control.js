// The control of a field that names a video or an image: drop, paste, choose, enter a URL, or take a recent result.

import { callJson, fileAddress, fileKey, fileUrl, mediaAddress } from "./api.js";
import { el } from "./dom.js";
import { playable } from "./player.js";
import { picture as thumbnail } from "./thumbnail.js";
import { upload } from "./upload.js";
import { seconds } from "./words.js";

const VIDEOS = "video/*,image/gif,image/webp,.mkv,.mov,.avi,.mts,.ts";
const RECENT = 6;

// Returns {node, get, set, send, onFacts, onSettings} for a field of the kind "video" or "image". `send(file)` uploads a
// file. `onFacts` sets the function that gets the facts of each new video and the address of its stored copy, or null
// where there are none, and `onSettings` the one that gets the settings in a chosen file that this server made.
export function fileControl(field, id) {
  const isImage = field.kind === "image";
  let value;
  let sending = new AbortController();
  let tellFacts = () => {};
  let tellSettings = () => {};
  let isChosen = false;
  const input = el("input", { id, type: "file", accept: isImage ? "image/*" : VIDEOS });
  const url = el("input", { type: "url", placeholder: "or paste a URL", aria: { label: `URL of the ${field.kind}` } });
  const bar = el("progress", { max: 1, hidden: true, aria: { label: "Upload" } });
  const facts = el("p", { class: "facts", role: "status" });
  const view = el("div", { class: "view" });
  const clear = button("Remove", () => choose(undefined));
  const choice = el("span", { class: "button" }, `Choose or drop ${isImage ? "an image" : "a video"}`, input);
  const node = el("div", { class: "drop" }, view, el("div", { class: "row" }, choice, url, clear), bar, facts);
  if (!isImage) node.append(recent());
  clear.hidden = true;

  function choose(next) {
    sending.abort();
    if ((next || undefined) === value) return;
    value = next || undefined;
    url.value = value && !fileKey(value) ? value : "";
    node.dispatchEvent(new Event("input", { bubbles: true }));
    show(value);
  }

  async function show(shown) {
    view.replaceChildren();
    facts.textContent = "";
    clear.hidden = shown === undefined;
    tellFacts(null);
    if (!shown) return;
    try {
      // A stranger's file is shown from the copy that the server fetched and keeps.
      const own = fileAddress(shown) ?? (await callJson("media/import", { json: { url: shown } })).file;
      const media = isImage ? await image(own) : await video(own, shown);
      if (shown === value) view.replaceChildren(media);
    } catch (error) {
      if (shown === value) facts.textContent = error.message;
    }
  }

  async function image(own) {
    return el("img", { src: (await mediaAddress(own)).address, alt: "The chosen image" });
  }

  async function video(own, shown) {
    const found = await callJson(`media/${fileKey(`/${own}`)}/facts`);
    if (shown === value) {
      const parts = [`${found.width} × ${found.height}`, `${found.num_frames} frames`, seconds(found.duration)];
      facts.textContent = [...parts, found.has_audio ? "with sound" : "no sound"].join(", ");
      tellFacts(found, own);
      if (isChosen && found.settings) tellSettings(found.settings);
    }
    const { address } = await playable(own);
    const label = { label: "The chosen video" };
    return el("video", {
      src: address,
      muted: true,
      controls: true,
      preload: "metadata",
      playsinline: true,
      aria: label,
    });
  }

  async function send(file) {
    sending.abort();
    sending = new AbortController();
    bar.hidden = false;
    bar.value = 0;
    facts.textContent = `Sending ${file.name || "the pasted file"}`;
    try {
      const sent = await upload(file, (share) => (bar.value = share), sending.signal);
      isChosen = true;
      choose(sent);
    } catch (error) {
      if (error.name !== "AbortError") facts.textContent = error.message;
    } finally {
      bar.hidden = true;
    }
  }

  // Returns the folded list of recent results. It is loaded when it is opened.
  function recent() {
    const list = el("div", { class: "recent" });
    const box = el("details", {}, el("summary", {}, "A recent result"), list);
    box.addEventListener("toggle", async () => {
      if (!box.open) return;
      const { requests } = await callJson("page/requests?state=done").catch(() => ({ requests: [] }));
      const results = requests.filter((one) => one.video).slice(0, RECENT);
      const item = (one) => {
        const take = button("", () => choose(fileUrl(one.video.url)));
        take.append(thumbnail(one.video.url), el("span", {}, one.prompt || one.endpoint));
        return take;
      };
      list.replaceChildren(
        ...(results.length ? results.map(item) : [el("p", { class: "quiet" }, "There is none yet.")]),
      );
    });
    return box;
  }

  function drop(event) {
    event.preventDefault();
    node.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) send(file);
    else choose(event.dataTransfer.getData("text/uri-list") || event.dataTransfer.getData("text/plain"));
  }
  function over(event) {
    event.preventDefault();
    node.classList.add("over");
  }

  input.addEventListener("change", () => {
    const [file] = input.files;
    if (file) send(file);
    input.value = "";
  });
  input.addEventListener("input", (event) => event.stopPropagation());
  url.addEventListener("change", () => choose(url.value.trim()));
  node.addEventListener("dragover", over);
  node.addEventListener("dragleave", () => node.classList.remove("over"));
  node.addEventListener("drop", drop);
  const onFacts = (tell) => (tellFacts = tell);
  const onSettings = (tell) => (tellSettings = tell);
  return { node, get: () => value, set: choose, send, onFacts, onSettings };
}

const button = (text, act) => el("button", { type: "button", class: "plain", onclick: act }, text);

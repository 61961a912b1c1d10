// The control of a field that names a video or an image: drop, paste, choose, enter a URL, or take a recent result.

import { callJson } from "./api.js";
import { button, el } from "./dom.js";
import { fileAddress, fileKey, fileUrl } from "./stored_files.js";
import { plural, seconds } from "./words.js";

const VIDEOS = "video/*,image/gif,image/webp,.mkv,.mov,.avi,.mts,.ts";

// Returns {node, get, set, pending, send, deliver, note, failure, onFailure, onFacts, onSettings} for a field of the kind
// "video" or "image". `pending` returns a sentence while an upload runs. `send(file)` uploads a file, and
// `deliver(text, make)` the file that `make()` promises; `text` is said meanwhile. `note(node)` adds to the line of facts.
// `failure` returns why the file could not be sent or shown, or null; the function that `onFailure` sets is called when that
// changes. `onFacts` sets the function that gets the facts of each new video and the address of its stored copy, or null
// where there are none, and `onSettings` the one that gets the settings in an uploaded file that this server made.
export function fileControl(field, id) {
  const isImage = field.kind === "image";
  let value;
  let sending = null;
  let leaving = new AbortController(); // its end frees what is shown
  let failure = null;
  let tellFailure = () => {};
  let told = [null]; // the newest facts
  let takeFacts = () => {};
  let early = null; // the settings that were found before anybody took them
  let tellSettings = (found) => (early = found);
  const input = el("input", { id, type: "file", accept: isImage ? "image/*" : VIDEOS });
  const url = el("input", { type: "url", placeholder: "or a URL", aria: { label: `URL of the ${field.kind}` } });
  const bar = el("progress", { max: 1, hidden: true, aria: { label: "Upload" } });
  const facts = el("p", { class: "facts", role: "status" });
  const view = el("div", { class: "view" });
  const clear = button("Remove", () => choose(undefined), { class: "plain" });
  const again = button("Try again", retry, { class: "plain" });
  const choice = el("span", { class: "button" }, `Choose or drop ${isImage ? "an image" : "a video"}`, input);
  const row = el("div", { class: "row" }, choice, url, again, clear);
  const node = el("div", { class: "drop" }, view, row, bar, facts, recents());
  clear.hidden = again.hidden = true;

  function choose(next, { isSent = false } = {}) {
    const isStopped = stop();
    if ((next || undefined) === value) {
      if (isStopped) {
        say("The upload was stopped.");
        again.hidden = !isLost();
        changed();
      }
      return;
    }
    value = next || undefined;
    url.value = value && !fileKey(value) ? value : "";
    changed();
    show(value, isSent);
  }

  // Tells the form that the value has changed, or that the same one can be planned and shown now.
  function changed() {
    node.dispatchEvent(new Event("input", { bubbles: true }));
  }

  function retry() {
    changed();
    return show(value);
  }

  // Returns whether a file is chosen that could not be shown.
  const isLost = () => value !== undefined && view.childElementCount === 0;

  // Ends an upload that is under way. Returns whether there was one.
  function stop() {
    const own = sending;
    sending = null;
    own?.abort();
    bar.hidden = true;
    clear.hidden = value === undefined;
    return own !== null;
  }

  // Returns the folded list of recent files.
  function recents() {
    const list = el("div", { class: "recents-list" });
    const title = isImage ? "A recent image, or the last frame of a recent video" : "A recent video";
    const box = el("details", { class: "recents" }, el("summary", {}, title), list);
    let closing = new AbortController();
    box.addEventListener("toggle", async () => {
      closing.abort();
      closing = new AbortController();
      const { signal } = closing;
      if (box.open) (await import("./recent_files.js")).listRecent(list, isImage, take, signal);
    });
    return box;
  }

  // Takes a stored file, or the last frame of a stored video.
  function take(path, { isFrame = false } = {}) {
    if (isFrame) deliver("Taking the last frame", async () => (await import("./recent_files.js")).lastFrame(path));
    else choose(fileUrl(path));
  }

  // Shows the file. A stranger's one is shown from the copy that the server fetched and keeps.
  async function show(shown, isSent = false) {
    leaving.abort();
    leaving = new AbortController();
    const { signal } = leaving;
    view.replaceChildren();
    say("");
    clear.hidden = shown === undefined;
    tellFacts(null);
    early = null;
    if (!shown) return;
    say("Looking at the file");
    view.replaceChildren(el("div", { class: "screen loading" }));
    try {
      const own = fileAddress(shown) ?? (await callJson("media/import", { json: { url: shown }, signal })).file;
      if (!isImage) await tell(own, isSent, signal);
      const waiting = making();
      const onShare = () => !signal.aborted && !waiting.isConnected && view.replaceChildren(waiting);
      const load = isImage
        ? (await import("./object_urls.js")).mediaAddress
        : (await import("./playable.js")).playable;
      const { address } = await load(own, { signal, onShare });
      if (signal.aborted) return;
      view.replaceChildren(isImage ? image(address) : film(address));
      if (isImage) describe("");
    } catch (error) {
      if (signal.aborted) return;
      view.replaceChildren();
      // What is said of another file, which is being sent or could not be sent meanwhile, stays.
      if (sending === null) fail([failure, error.message].filter(Boolean).join(" "));
    }
  }

  // Writes the facts of a video, and passes them on.
  async function tell(own, isSent, signal) {
    const found = await callJson(`media/${fileKey(own)}/facts`, { signal });
    const parts = [`${found.width} × ${found.height}`, plural(found.num_frames, "frame"), seconds(found.duration)];
    describe([...parts, found.has_audio ? "with sound" : "no sound"].join(", "));
    tellFacts(found, own);
    if (isSent && found.settings) tellSettings(found.settings);
  }

  function tellFacts(...found) {
    told = found;
    takeFacts(...found);
  }

  function say(text) {
    facts.textContent = text;
    again.hidden = true;
    setFailure(null);
  }

  // Returns whether the line of facts is about the chosen file: no other one is being sent or could not be sent.
  const isOfChosen = () => sending === null && failure === null;

  function describe(text) {
    if (isOfChosen()) say(text);
  }

  // Tells why a file could not be sent or shown. Where another one is chosen already, it stays in view.
  function fail(text) {
    facts.textContent = "";
    again.hidden = !isLost();
    setFailure(text);
  }

  function setFailure(text) {
    if (failure === text) return;
    failure = text;
    tellFailure();
  }

  const send = (file) => deliver(`Sending ${file.name || "the pasted file"}`, () => file);

  // Uploads the file that `make` returns, and chooses it, unless another file was chosen meanwhile.
  async function deliver(text, make) {
    stop();
    const own = (sending = new AbortController());
    bar.hidden = clear.hidden = false;
    bar.value = 0;
    say(text);
    try {
      const [file, { upload }] = await Promise.all([make(), import("./upload.js")]);
      own.signal.throwIfAborted();
      const sent = await upload(file, (share) => (bar.value = share), own.signal);
      if (sending !== own) return;
      sending = null;
      choose(sent, { isSent: true });
    } catch (error) {
      if (sending !== own) return;
      stop();
      fail(error.message);
      changed();
    }
  }

  function drop(event) {
    event.preventDefault();
    event.stopPropagation();
    node.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) send(file);
    else choose(event.dataTransfer.getData("text/uri-list") || event.dataTransfer.getData("text/plain"));
  }

  input.addEventListener("change", () => {
    const [file] = input.files;
    if (file) send(file);
    input.value = "";
  });
  input.addEventListener("input", (event) => event.stopPropagation());
  url.addEventListener("input", (event) => event.stopPropagation());
  url.addEventListener("change", () => choose(url.value.trim()));
  url.addEventListener("paste", ({ clipboardData }) => {
    // The field has the pasted text after the event. A file is taken by the page.
    if (!clipboardData.files.length) setTimeout(() => URL.canParse(url.value) && choose(url.value.trim()));
  });
  node.addEventListener("dragover", () => node.classList.add("over"));
  node.addEventListener("dragleave", () => node.classList.remove("over"));
  node.addEventListener("drop", drop);
  const pending = () => (sending ? "The upload is still on its way." : null);
  const onFailure = (listener) => (tellFailure = listener);
  const onFacts = (listener) => {
    takeFacts = listener;
    takeFacts(...told);
  };
  const onSettings = (listener) => {
    tellSettings = listener;
    if (early) listener(early);
  };
  const note = (text) => isOfChosen() && facts.append(" ", text);
  return {
    node,
    get: () => value,
    set: choose,
    pending,
    send,
    deliver,
    note,
    failure: () => failure,
    onFailure,
    onFacts,
    onSettings,
  };
}

const making = () =>
  el("div", { class: "screen loading" }, el("p", { role: "status" }, "Making a copy that this browser can play…"));

const image = (address) => el("img", { src: address, alt: "The chosen image" });

function film(address) {
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

// The recent files of this server: videos as a source; images and last frames of videos as an end image. Uploads are among
// them, also those that no request has used.

import { callJson } from "./api.js";
import { button, el } from "./dom.js";
import { playable } from "./playable.js";
import { fileKey } from "./stored_files.js";
import { picture, still } from "./thumbnail.js";

const SHOWN = 6;

// Shows the files of the newest requests in the element `list`. `take(path, {isFrame})` gets the address of the chosen file,
// and whether its last frame is wanted. Nothing is shown after `signal` has ended.
export async function listRecent(list, isImage, take, signal) {
  try {
    const lists = ["page/requests", "page/uploads"].map((path) => callJson(path, { signal }));
    const [{ requests }, { files }] = await Promise.all(lists);
    const uploads = files.filter((one) => isStill(one) === isImage).map(({ url, name }) => [url, name]);
    const made = isImage ? imageGroups(requests, uploads) : videoGroups(requests, uploads);
    const groups = made.filter(({ files }) => files.length);
    list.replaceChildren(...(groups.length ? groups.map((one) => group(one, take)) : [nothing()]));
  } catch (error) {
    if (signal.aborted) return;
    list.replaceChildren(el("p", { class: "error" }, error.message));
  }
}

// Whether an upload is an image. A GIF or WebP file can be a video.
const isStill = ({ content_type: type }) => type.startsWith("image/") && !/gif|webp/.test(type);

const nothing = () => el("p", { class: "quiet" }, "There is none yet.");

// Returns [{name, files, thumbnail, isFrame}] of recent videos. A file is [address, text]; `thumbnail(address)` shows it.
function videoGroups(requests, uploads) {
  const made = results(requests);
  const sources = without(made, distinct(requests, ({ source }) => source));
  const look = { thumbnail: picture, isFrame: false };
  return [
    { name: "Results", files: made.slice(0, SHOWN), ...look },
    { name: "Sources", files: sources.slice(0, SHOWN), ...look },
    { name: "Uploads", files: without([...made, ...sources], uploads).slice(0, SHOWN), ...look },
  ];
}

// Returns the groups, in the same form, of what can be an end image.
function imageGroups(requests, uploads) {
  const images = distinct(requests, ({ end_image: path }) => path);
  return [
    { name: "End images", files: images.slice(0, SHOWN), thumbnail: still, isFrame: false },
    { name: "Uploads", files: without(images, uploads).slice(0, SHOWN), thumbnail: still, isFrame: false },
    { name: "Last frames of results", files: results(requests).slice(0, SHOWN), thumbnail: picture, isFrame: true },
  ];
}

// Returns the files that are not among `others`.
function without(others, files) {
  const known = new Set(others.map(([path]) => path));
  return files.filter(([path]) => !known.has(path));
}

const results = (requests) => distinct(requests, ({ video }) => video?.url);

// Returns the files that `pathOf` finds in requests, the newest first, each once, with the prompt of its request.
function distinct(requests, pathOf) {
  const found = new Map();
  for (const one of requests)
    if (pathOf(one) && !found.has(pathOf(one))) found.set(pathOf(one), one.prompt || one.endpoint);
  return [...found];
}

const group = ({ name, files, thumbnail, isFrame }, take) =>
  el(
    "section",
    {},
    el("h3", {}, name),
    el("div", { class: "recent" }, files.map(([path, text]) => item(text, thumbnail(path), () => take(path, { isFrame })))),
  );

const item = (text, shown, act) => button([shown, el("span", {}, text)], act, { class: "plain" });

// Returns the last frame of a stored video as a PNG file.
export async function lastFrame(path) {
  const { fps } = await callJson(`media/${fileKey(path)}/facts`);
  const { address, release } = await playable(path);
  try {
    const film = el("video", { src: address, muted: true, preload: "auto", playsinline: true });
    await heard(film, "loadedmetadata");
    film.currentTime = Math.max(0, film.duration - 0.5 / fps);
    await heard(film, "seeked");
    const canvas = el("canvas", { width: film.videoWidth, height: film.videoHeight });
    canvas.getContext("2d").drawImage(film, 0, 0);
    const content = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    return new File([content], "last_frame.png", { type: "image/png" });
  } finally {
    release();
  }
}

// Waits for an event of a video. Throws an error if the browser cannot read the video.
const heard = (film, event) =>
  new Promise((resolve, reject) => {
    film.addEventListener(event, resolve, { once: true });
    film.addEventListener("error", () => reject(new Error("The browser cannot read this video.")), { once: true });
  });

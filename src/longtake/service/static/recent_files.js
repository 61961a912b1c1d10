// The recent videos of this server, to take one as a source or its last frame as an image.

import { callJson, fileKey } from "./api.js";
import { el } from "./dom.js";
import { playable } from "./playable.js";
import { picture } from "./thumbnail.js";

const SHOWN = 6;

// Returns the folded list of the newest results and of the sources of the newest requests. It is loaded when it is opened;
// `take(path)` gets the address of the chosen one.
export function recentFiles(isImage, take) {
  const list = el("div", {});
  const title = isImage ? "The last frame of a recent video" : "A recent video";
  const box = el("details", { class: "recents" }, el("summary", {}, title), list);
  box.addEventListener("toggle", async () => {
    if (!box.open) return;
    try {
      const { requests } = await callJson("page/requests?state=done");
      const results = requests.filter(({ video }) => video).map((one) => [one.video.url, one.prompt || one.endpoint]);
      const known = new Set(results.map(([path]) => path));
      const sources = new Map(
        requests
          .filter(({ source }) => source && !known.has(source))
          .map((one) => [one.source, `Source: ${one.prompt}`]),
      );
      const files = [...results.slice(0, SHOWN), ...[...sources].slice(0, SHOWN)];
      list.className = files.length ? "recent" : "quiet";
      list.replaceChildren(...(files.length ? files.map((file) => item(file, take)) : ["There is none yet."]));
    } catch (error) {
      list.className = "error";
      list.replaceChildren(error.message);
    }
  });
  return box;
}

const item = ([path, text], take) =>
  el("button", { type: "button", class: "plain", onclick: () => take(path) }, picture(path), el("span", {}, text));

// Returns the last frame of a stored video as a PNG file.
export async function lastFrame(path) {
  const [{ fps }, { address, release }] = await Promise.all([callJson(`media/${fileKey(path)}/facts`), playable(path)]);
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

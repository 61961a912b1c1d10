// Stored files that a browser may be unable to play, and the server's copies of them.

import { call, callJson } from "./api.js";
import { mediaAddress } from "./object_urls.js";
import { fileKey } from "./stored_files.js";

const ASK_MS = 700;
const USUAL = /\.(mp4|webm)$/;

// Returns {address, release} of a file that the browser can play: the file itself, or a copy that the server makes of
// it. `onShare(share)` is called while the copy is made, with the share (0..1) that is done. `signal` ends the waiting,
// and frees the file.
export async function playable(path, options = {}) {
  return mediaAddress((await copyOf(path, options)) ?? path, options);
}

// Puts the file at `path` into a video element. A usual file is there at once, because nearly every one can be played; a
// copy takes its place if the browser cannot play it, and goes on where the video was. The end of `signal` frees what was
// loaded. The other options are those of `playable`.
export async function showIn(film, path, { signal, onShare }) {
  let release = () => {};
  const show = (media) => {
    if (signal.aborted) return;
    const { currentTime, paused } = film;
    film.src = media.address;
    film.currentTime = currentTime;
    if (!paused) film.play().catch(() => {});
    release();
    ({ release } = media);
  };
  const isUsual = USUAL.test(path);
  const own = isUsual ? mediaAddress(path, { signal }).then(show) : Promise.resolve();
  // Where a copy is made, it does not matter that the file itself could not be loaded.
  const [copy] = await Promise.all([copyOf(path, { signal, onShare }), own.catch(() => {})]);
  if (copy || !isUsual) show(await mediaAddress(copy ?? path, { signal }));
  else await own;
}

// Returns the address of the copy of a file that the browser cannot play, when it is made; null if no copy is needed.
async function copyOf(path, { signal, onShare = () => {} }) {
  const file = fileKey(path);
  const facts = file ? await callJson(`media/${file}/facts`, { signal }).catch(() => null) : null;
  signal?.throwIfAborted();
  if (!facts || facts.playable) return null;
  const copy = `media/${file}/copy`;
  for (;;) {
    const answer = await call(copy, { headers: { Range: "bytes=0-0" }, signal });
    if (answer.status !== 202) return copy;
    onShare((await answer.json()).share);
    await new Promise((resolve) => setTimeout(resolve, ASK_MS));
  }
}

// Saves a stored file on the person's machine.

import { el, toast } from "./dom.js";
import { mediaAddress } from "./object_urls.js";

const WRITING_MS = 60_000;

// Returns the name under which the result of a request is saved.
export const downloadName = ({ id, video }) => `longtake-${id.slice(0, 8)}${/\.\w+$/.exec(video.url)?.[0] ?? ""}`;

// Lets the browser save the file at `path`, an address of this server, under a name.
export async function download(path, name) {
  try {
    const { address, release } = await mediaAddress(path);
    el("a", { href: address, download: name }).click();
    setTimeout(release, WRITING_MS); // the browser does not tell when it has written the file
  } catch (error) {
    toast(error.message, { failed: true });
  }
}

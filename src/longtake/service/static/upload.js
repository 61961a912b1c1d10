// Uploads a file as fal's clients do: the server names an address, and the bytes are sent to it.

import { ROOT } from "./addresses.js";
import { callJson, headers } from "./api.js";

// Uploads `file` and returns its URL on the server. `onProgress` is called with the sent share, 0..1.
export async function upload(file, onProgress, signal) {
  const { upload_url, file_url } = await callJson("rest/storage/upload/initiate", {
    json: { file_name: file.name || "pasted", content_type: file.type || "application/octet-stream" },
    signal,
  });
  const token = upload_url.slice(upload_url.lastIndexOf("/") + 1);
  signal?.throwIfAborted();
  await new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch reports no progress of an upload
    request.open("PUT", `${ROOT}cdn/uploads/${token}`);
    for (const [name, text] of Object.entries(headers())) request.setRequestHeader(name, text);
    request.setRequestHeader("Content-Type", file.type || "application/octet-stream");
    request.upload.addEventListener(
      "progress",
      (event) => event.lengthComputable && onProgress(event.loaded / event.total),
    );
    request.addEventListener("load", () => (request.status < 300 ? resolve() : reject(new Error(reason(request)))));
    request.addEventListener("error", () => reject(new Error("The upload failed: the server could not be reached.")));
    request.addEventListener("abort", () => reject(new DOMException("The upload was cancelled.", "AbortError")));
    signal?.addEventListener("abort", () => request.abort());
    request.send(file);
  });
  return file_url;
}

function reason(request) {
  try {
    return String(JSON.parse(request.responseText).detail);
  } catch {
    return `The upload failed: the server answered ${request.status}.`;
  }
}

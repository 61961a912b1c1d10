// Object URLs: addresses of blobs, by which elements show them. A blob stays in memory as long as its address. This is
// the only place of the pages that makes such addresses, and each of them ends with what shows it.

import { ROOT } from "./addresses.js";
import { call } from "./api.js";
import { key } from "./key.js";

// Returns {address, release} for a blob. The address is good until `release` is called or `signal`, if there is one, is
// aborted.
export function objectUrl(blob, signal) {
  const address = URL.createObjectURL(blob);
  const release = () => URL.revokeObjectURL(address);
  if (signal?.aborted) release();
  else signal?.addEventListener("abort", release, { once: true });
  return { address, release };
}

// Returns an address for a picture or a video. With a key the file is loaded with the key and becomes a blob, because
// an element's own address cannot carry a header. `release`, or the end of `signal`, frees it.
export async function mediaAddress(path, { signal } = {}) {
  if (!key()) return { address: ROOT + path, release: () => {} };
  return objectUrl(await (await call(path, { signal })).blob(), signal);
}

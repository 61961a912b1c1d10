// A section of the server's page, which only some keys may see.

import { Refused, Unreachable, callJson } from "./api.js";
import { by, toast } from "./dom.js";

// Returns a function that loads what is at `path` and passes it on to `draw`, unless it is called again meanwhile. It shows
// the element with the id `panel`, or hides it from a key that may not see it. The page's head tells of an outage.
export function section(panel, path, draw) {
  let loading = new AbortController();
  return async () => {
    loading.abort();
    loading = new AbortController();
    const { signal } = loading;
    let found;
    try {
      found = await callJson(path, { signal });
    } catch (error) {
      if (signal.aborted || error instanceof Unreachable) return;
      const isHidden = error instanceof Refused && [403, 404].includes(error.status);
      if (isHidden) by(panel).hidden = true;
      else toast(error.message, { failed: true });
      return;
    }
    by(panel).hidden = false;
    draw(found);
  };
}

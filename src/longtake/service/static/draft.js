// Keeps what a person has entered, in the browser's tab, so that leaving the page and coming back does not lose it.

import { parse, stringify } from "./json.js";
import { ofTab } from "./storage.js";

const WAIT_MS = 200;
// A longer request contains a whole file, for which a browser's storage may have no room.
const MOST_CHARACTERS = 100_000;

// Fills a form with what was last entered for this endpoint in this tab, and keeps what is entered from now on. Returns a
// function that returns whether something was entered, before or since. A link that leads to a request shows that request
// instead; a reload does not.
export function keepDraft(endpoint, form) {
  const name = `longtake.draft.${endpoint}`;
  const isLink = performance.getEntriesByType("navigation")[0]?.type === "navigate";
  const kept = isLink && location.search.includes("request=") ? null : ofTab.get(name);
  if (kept) form.set(parse(kept));
  const beginning = stringify(form.value());
  let timer = 0;
  let isOwn = Boolean(kept);

  function keep() {
    clearTimeout(timer);
    const text = stringify(form.value());
    isOwn ||= text !== beginning;
    if (!isOwn) return;
    if (text.length < MOST_CHARACTERS) ofTab.set(name, text);
    else ofTab.remove(name); // an older one would come back in its place
  }
  form.node.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(keep, WAIT_MS);
  });
  addEventListener("pagehide", keep);
  return () => Boolean(kept) || stringify(form.value()) !== beginning;
}

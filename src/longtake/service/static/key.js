// The API key of this page. It is sent in a header, never in an address. It stays in the browser: in the storage of the
// tab, or, if the person wants that, in the storage of all tabs. Another server on the same host, behind another path
// prefix, shares that storage, so the server's address is part of the name.

import { HOME } from "./addresses.js";
import { ofAllTabs, ofTab } from "./storage.js";

const NAME = `longtake.key ${HOME}`;
const FORGET = "forget";

// Returns the key, or null if there is none.
export const key = () => ofTab.get(NAME) ?? ofAllTabs.get(NAME);

// Keeps a key for this tab, and for all tabs if `everywhere` is true.
export function keep(text, everywhere) {
  ofTab.set(NAME, text);
  if (everywhere) ofAllTabs.set(NAME, text);
}

// Drops a key that opens nothing. Another one that is kept stays.
export function drop(text) {
  for (const storage of [ofTab, ofAllTabs]) if (storage.get(NAME) === text) storage.remove(NAME);
}

const tabs = new BroadcastChannel(NAME);
tabs.addEventListener("message", ({ data }) => data === FORGET && forgetHere());

// Forgets the key and what was entered, in this tab and in all others with this address of the server, and loads their
// pages again. A browser keeps other addresses apart, also those that lead to the same server.
export function forget() {
  tabs.postMessage(FORGET);
  forgetHere();
}

function forgetHere() {
  // A page that is left keeps what was entered, and sends its last calls with the key. All is forgotten after that.
  addEventListener("pagehide", () => {
    ofTab.clear();
    ofAllTabs.remove(NAME);
  });
  location.reload();
}

// A page that the browser has kept and shows again, as "Back" does, may show what another key opened.
let left = null;
addEventListener("pagehide", () => (left = key()));
addEventListener("pageshow", ({ persisted }) => persisted && key() !== left && location.reload());

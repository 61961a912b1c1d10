// What all pages share: the key door, the line about the queue, and the mark at the current page's link.

import { HOME } from "./addresses.js";
import { announcer } from "./announcer.js";
import { Unreachable, callJson, setDoor } from "./api.js";
import { button, by, el } from "./dom.js";
import { drop, forget, keep, key } from "./key.js";

const door = by("door");
let opening = null;

setDoor((refusal) => {
  // A call that was sent without a key does not wipe away why another one was refused.
  if (!opening || refusal) by("refusal").textContent = refusal;
  opening ??= new Promise((resolve) => {
    door.showModal();
    door.addEventListener(
      "close",
      () => {
        opening = null;
        const typed = by("key").value.trim();
        by("key").value = "";
        if (typed) adopt(typed, by("remember").checked);
        resolve();
      },
      { once: true },
    );
  });
  return opening;
});
// Uses a key from now on: calls that wait for one go on with it. `everywhere` is whether all tabs use it.
export function adopt(text, everywhere = false) {
  keep(text, everywhere);
  by("forget").hidden = false;
  shut();
}
// Closes the door, if it is open, without the key that is being typed there.
function shut() {
  by("key").value = "";
  if (door.open) door.close();
}
// Uses a key no more, because it was revoked.
export function abandon() {
  drop(key());
  by("forget").hidden = true;
}
door.addEventListener("cancel", (event) => event.preventDefault());
by("forget").hidden = !key();
by("forget").addEventListener("click", forget);
// A key that another tab remembers opens this one, too.
addEventListener("storage", () => {
  by("forget").hidden = !key();
  if (key()) shut();
});

for (const link of document.querySelectorAll(".top nav a")) {
  const own = new URL(link.href).pathname;
  const home = new URL(HOME).pathname;
  const here =
    own === home
      ? location.pathname === home || location.pathname.startsWith(`${home}models/`)
      : location.pathname === own;
  if (here) link.setAttribute("aria-current", "page");
}

// The browser would replace the page with a file that is dropped where nothing takes it. Instead, the pointer shows that the
// file cannot be dropped there.
for (const name of ["dragover", "drop"])
  addEventListener(name, (event) => {
    if (event.defaultPrevented || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "none";
  });

// Says on top of the page why it could not begin, such as an outage, and offers to load it again.
export function failToBegin({ message }) {
  const again = button("Try again", () => location.reload());
  by("main").prepend(el("div", { class: "actions", role: "alert" }, el("p", { class: "error" }, message), again));
}

const listeners = new Set();
const speech = announcer();
let newest = null; // the newest list of requests
let timer = setTimeout(renew);
let renewing = new AbortController();
by("queue").after(speech.node);

// Calls `listener(list, signal)` with the list of requests now and again: each second while something waits or runs,
// otherwise every three seconds, and not while the page is hidden. The signal is aborted when a newer list is on its way.
// `until`, a signal, ends the calls.
export function onRequests(listener, until) {
  listeners.add(listener);
  if (newest) tell([listener], renewing.signal);
  until?.addEventListener("abort", () => listeners.delete(listener));
}

// Loads the list of requests at once. An older answer that is still on its way counts no more.
export async function renew() {
  clearTimeout(timer);
  renewing.abort();
  renewing = new AbortController();
  const { signal } = renewing;
  try {
    const list = await callJson("page/requests", { signal });
    if (signal.aborted) return;
    newest = list;
    const words = [list.running && `${list.running} running`, list.waiting && `${list.waiting} waiting`];
    say(words.filter(Boolean).join(", "));
    await tell(listeners, signal);
  } catch (error) {
    complain(error, signal);
  }
  const pause = newest?.running || newest?.waiting ? 1000 : 3000;
  if (!signal.aborted && !document.hidden) timer = setTimeout(renew, pause);
}

async function tell(some, signal) {
  try {
    for (const listener of some) await listener(newest, signal);
  } catch (error) {
    complain(error, signal);
  }
}

// Says in the page's head why its lists are not renewed, unless newer ones are on their way.
function complain(error, signal) {
  if (signal.aborted) return;
  say(error instanceof Unreachable ? "The server does not answer; trying again" : error.message);
}

function say(text) {
  by("queue").textContent = text;
  speech.say(text);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) renew();
});

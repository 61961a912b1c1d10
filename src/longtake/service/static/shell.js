// What all pages share: the key door, the line about the queue, and the mark at the current page's link.

import { ROOT, callJson, keep, key, setDoor } from "./api.js";
import { by } from "./dom.js";

const door = by("door");
let opening = null;

setDoor((refusal) => {
  by("refusal").textContent = refusal;
  opening ??= new Promise((resolve) => {
    door.showModal();
    door.addEventListener(
      "close",
      () => {
        opening = null;
        keep(by("key").value.trim());
        by("key").value = "";
        by("forget").hidden = !key();
        resolve();
      },
      { once: true },
    );
  });
  return opening;
});
door.addEventListener("cancel", (event) => event.preventDefault());
by("forget").hidden = !key();
by("forget").addEventListener("click", () => {
  keep(null);
  location.reload();
});

for (const link of document.querySelectorAll(".top nav a")) {
  const own = new URL(link.href).pathname;
  const home = new URL(ROOT || ".", location.href).pathname;
  const here =
    own === home
      ? location.pathname === home || location.pathname.startsWith(`${home}models/`)
      : location.pathname === own;
  if (here) link.setAttribute("aria-current", "page");
}

const listeners = new Set();
// Calls `listener` with the list of requests now and again: each second while something waits or runs, otherwise every
// three seconds, and not while the page is hidden.
export function onRequests(listener) {
  listeners.add(listener);
  if (listeners.size === 1) renew();
  return () => listeners.delete(listener);
}

let timer = 0;
export async function renew() {
  clearTimeout(timer);
  let pause = 3000;
  try {
    const list = await callJson("page/requests");
    const words = [list.running && `${list.running} running`, list.waiting && `${list.waiting} waiting`].filter(
      Boolean,
    );
    by("queue").textContent = words.join(", ");
    for (const listener of listeners) await listener(list);
    if (words.length) pause = 1000;
  } catch (error) {
    by("queue").textContent = error instanceof TypeError ? "The server does not answer; trying again" : error.message;
  }
  if (!document.hidden) timer = setTimeout(renew, pause);
}
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && listeners.size) renew();
});

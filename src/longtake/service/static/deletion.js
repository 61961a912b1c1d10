// Deletes requests a few seconds after a person has asked for it. Until then it can be undone.

import { ROOT, call, headers } from "./api.js";
import { el, newId, toast } from "./dom.js";
import { plural } from "./words.js";

const UNDO_MS = 8000;
const deletions = new Map(); // id of a request -> the deletion that it belongs to, until the page knows its outcome

// Returns the deletion that a request belongs to; undefined if there is none.
export const deletionOf = (id) => deletions.get(id);

// Returns the deletions that can still be undone.
export const undoable = () => [...new Set(deletions.values())].filter(({ isWaiting }) => isWaiting());

// Deletes the inputs, the results and the files of requests when UNDO_MS have passed, or when the page is left before.
// Returns {node, undo}: an element with this tag that says so, and the button in it that undoes it.
//
// entries: the requests, as `page/requests` lists them.
// onEnd: called with the requests that are still there, because the person has undone it or the server has refused it.
//     They count as deleted until its promise is fulfilled.
export function eraseSoon(entries, tag, onEnd) {
  const count = entries.length;
  const due = Date.now() + UNDO_MS;
  const text = el("span", { id: newId("deleted") }, announcement(count, UNDO_MS));
  const undo = el("button", { type: "button", onclick: () => end(entries), aria: { describedby: text.id } }, "Undo");
  const node = el(tag, { class: "deleted actions" }, text, undo);
  const clock = setInterval(() => (text.textContent = announcement(count, due - Date.now())), 1000);
  let timer = setTimeout(send, UNDO_MS);
  const open = new Set(entries.map(({ id }) => id)); // those that no answer came for
  const permit = headers(); // another tab that forgets the key may be quicker than this one
  const deletion = { node, undo, leave, isWaiting: () => timer !== null };
  for (const { id } of entries) deletions.set(id, deletion);

  async function send() {
    timer = null;
    clearInterval(clock);
    text.textContent = "Deleting…";
    const refused = [];
    for (const entry of entries) {
      const error = await refusal(entry.id);
      open.delete(entry.id);
      if (error) refused.push({ entry, error });
    }
    if (refused.length) toast(complaint(refused, count), { failed: true });
    else text.textContent = "Deleted.";
    await end(refused.map(({ entry }) => entry));
  }

  async function end(kept) {
    if (timer === null && kept === entries) return; // it has been sent and cannot be undone
    clearTimeout(timer);
    clearInterval(clock);
    timer = null;
    for (const { id } of kept) deletions.delete(id);
    await onEnd(kept);
    for (const { id } of entries) deletions.delete(id);
  }

  // Sends what the server has not answered yet. The browser sends these calls although the page is left.
  function leave() {
    clearTimeout(timer);
    clearInterval(clock);
    timer = null;
    text.textContent = "Deleting…";
    undo.remove();
    const options = { method: "DELETE", headers: permit, keepalive: true };
    for (const id of open) fetch(ROOT + address(id), options).catch(() => {});
    open.clear();
  }
  return deletion;
}

addEventListener("pagehide", () => {
  for (const deletion of new Set(deletions.values())) deletion.leave();
});

// Returns what is said while a deletion can be undone, for `left` more milliseconds.
function announcement(count, left) {
  const time = `in ${Math.max(1, Math.ceil(left / 1000))} s`;
  if (count === 1) return `Will be deleted ${time}, with its input and its file.`;
  return `${plural(count, "request")} will be deleted ${time}.`;
}

const address = (id) => `v1/models/requests/${id}/payloads`;

// Deletes one request. Returns the error if it is still there, or null. One that is unknown has been deleted before.
const refusal = (id) =>
  call(address(id), { method: "DELETE" }).then(
    () => null,
    (error) => (error.status === 404 ? null : error),
  );

function complaint(refused, count) {
  const names = refused.map(({ entry }) => entry.prompt || entry.id).join("”, “");
  const reasons = [...new Set(refused.map(({ error }) => error.message))].join("; ");
  const which = count === 1 ? "It was not deleted" : `${refused.length} of ${count} were not deleted: “${names}”`;
  return `${which}. ${reasons}`;
}

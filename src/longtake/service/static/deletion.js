// Deletes requests a few seconds after a person has asked for it. Until then it can be undone.

import { ROOT, payloadsPath } from "./addresses.js";
import { call, headers } from "./api.js";
import { button, el, newId, toast } from "./dom.js";
import { plural } from "./words.js";

const UNDO_MS = 8000;
const deletions = new Map(); // id of a request -> the deletion that it belongs to, until the page knows its outcome

// Returns the deletion that a request belongs to; undefined if there is none.
export const deletionOf = (id) => deletions.get(id);

// Returns the deletions that can still be undone.
export const undoable = () => [...new Set(deletions.values())].filter(({ isUndoable }) => isUndoable());

// Deletes the inputs, the results and the files of requests when UNDO_MS have passed, or when the page is left before.
// Returns {node, undo}: an element with this tag that says so, and the button in it that undoes it. While the requests are
// being deleted, one after the other, the button keeps those whose turn has not come.
//
// entries: the requests, as `page/requests` lists them.
// onEnd: called with the requests that are still there, because the person has undone it or the server has refused it.
//     They count as deleted until its promise is fulfilled.
export function eraseSoon(entries, tag, onEnd) {
  const count = entries.length;
  const due = Date.now() + UNDO_MS;
  const text = el("span", { id: newId("deleted") }, announcement(count, UNDO_MS));
  const undo = button("Undo", keep, { aria: { describedby: text.id } });
  const node = el(tag, { class: "deleted actions" }, text, undo);
  const clock = setInterval(() => (text.textContent = announcement(count, due - Date.now())), 1000);
  const timer = setTimeout(send, UNDO_MS);
  const permit = headers(); // another tab that forgets the key may be quicker than this one
  const left = [...entries]; // those whose turn has not come
  const keptLate = []; // those that were kept after the first one was sent
  const unanswered = new Set(entries.map(({ id }) => id)); // those that no answer came for
  let isUndoable = true;
  const deletion = { node, undo, leave, isUndoable: () => isUndoable };
  for (const { id } of entries) deletions.set(id, deletion);

  // Ends the time in which all of it can be undone.
  function begin() {
    isUndoable = false;
    clearTimeout(timer);
    clearInterval(clock);
  }

  async function keep() {
    const kept = left.splice(0);
    for (const { id } of kept) unanswered.delete(id);
    if (isUndoable) {
      begin();
      await end(kept);
    } else if (kept.length) {
      text.textContent = "Deleting no more…";
      keptLate.push(...kept);
    } else toast("It is too late to undo it.", { failed: true });
  }

  async function send() {
    begin();
    text.textContent = "Deleting…";
    const refused = [];
    while (left.length) {
      const entry = left.shift();
      const error = await refusal(entry.id);
      unanswered.delete(entry.id);
      if (error) refused.push({ entry, error });
    }
    const gone = count - refused.length - keptLate.length;
    if (keptLate.length) toast(`${plural(gone, "request")} ${gone === 1 ? "was" : "were"} deleted before you undid it.`);
    if (refused.length) toast(complaint(refused, count), { failed: true });
    else text.textContent = "Deleted.";
    await end([...refused.map(({ entry }) => entry), ...keptLate]);
  }

  async function end(kept) {
    for (const { id } of kept) deletions.delete(id);
    await onEnd(kept);
    for (const { id } of entries) deletions.delete(id);
  }

  // Sends what the server has not answered yet. The browser sends these calls although the page is left. It may also keep
  // the page, and show it again.
  async function leave() {
    begin();
    left.length = 0;
    text.textContent = "Deleting…";
    undo.remove();
    const options = { method: "DELETE", headers: permit, keepalive: true };
    const calls = [...unanswered].map((id) => fetch(ROOT + payloadsPath(id), options));
    unanswered.clear();
    await Promise.allSettled(calls);
    if (calls.length) await end([]);
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

// Deletes one request. Returns the error if it is still there, or null. One that is unknown has been deleted before.
const refusal = (id) =>
  call(payloadsPath(id), { method: "DELETE" }).then(
    () => null,
    (error) => (error.status === 404 ? null : error),
  );

function complaint(refused, count) {
  const names = refused.map(({ entry }) => entry.prompt || entry.id).join("”, “");
  const reasons = [...new Set(refused.map(({ error }) => error.message))].join("; ");
  const which = count === 1 ? "It was not deleted" : `${refused.length} of ${count} were not deleted: “${names}”`;
  return `${which}. ${reasons}`;
}

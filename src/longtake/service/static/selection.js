// The requests that are selected in the history, on any of its pages: to delete them together, or to compare two.

import { comparePage } from "./addresses.js";
import { by, el } from "./dom.js";

const picked = new Map(); // id -> entry

// Returns the selected entries.
export const selected = () => [...picked.values()];

// Returns whether a request can be selected: one that has ended and is not deleted.
export const isSelectable = ({ completed_at: ended, erased_at: erased }) => Boolean(ended) && !erased;

// Returns the checkbox that selects a request, with its label. `properties` are further ones of the checkbox.
export function selector(entry, properties) {
  const onchange = () => select([entry], box.checked);
  const box = el("input", { type: "checkbox", value: entry.id, onchange, ...properties });
  box.checked = picked.has(entry.id);
  return el("label", { class: "pick" }, box, "Select");
}

// Selects entries, or selects them no more, and shows which are selected.
export function select(entries, wanted) {
  for (const entry of entries) {
    if (wanted) picked.set(entry.id, entry);
    else picked.delete(entry.id);
  }
  for (const box of by("requests").querySelectorAll(".pick input")) box.checked = picked.has(box.value);
  by("picked").hidden = picked.size === 0;
  by("picked-text").textContent = `${picked.size} selected`;
  const videos = selected().filter(({ video }) => video);
  const isPair = picked.size === 2 && videos.length === 2;
  by("picked-compare").hidden = !isPair;
  if (isPair) by("picked-compare").href = comparePage(...videos.map(({ id }) => id));
}

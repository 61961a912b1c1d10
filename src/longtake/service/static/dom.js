// Makes elements of the page. Text is always set as text, so nothing that a request or a file contains becomes HTML.

// Returns a new element. Properties that begin with "on" are listeners; `class`, `data` and `aria` are set as such; all
// other names are attributes, except those whose value is null, undefined or false, which are left out.
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name === "aria") for (const [key, text] of Object.entries(value)) node.setAttribute(`aria-${key}`, text);
    else if (name === "value" || name === "muted")
      node[name] = value; // as attributes they do nothing later on
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const by = (id) => document.getElementById(id);

let counter = 0;
// Returns an id that no other element of the page has.
export const newId = (word) => `${word}-${++counter}`;

// Shows a sentence at the page's edge for a few seconds, also to screen readers.
export function toast(text, { failed = false } = {}) {
  const node = el("p", { class: failed ? "toast failed" : "toast" }, text);
  by("toasts").append(node);
  setTimeout(() => node.remove(), failed ? 9000 : 4000);
}

// Copies a text to the clipboard, also on a page without HTTPS, where browsers have no clipboard API.
export async function copyText(text) {
  if (navigator.clipboard && window.isSecureContext) await navigator.clipboard.writeText(text);
  else {
    const area = el("textarea", { value: text, class: "unseen", aria: { hidden: "true" } });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast("Copied");
}

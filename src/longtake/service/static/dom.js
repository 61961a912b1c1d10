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

// Returns a button that calls `act`, as `press` does. `text` is its text, or a list of texts and elements.
export function button(text, act, properties = {}) {
  const node = el("button", { type: "button", onclick: () => press(node, act), ...properties }, text);
  return node;
}

// Calls `act` for a button that was pressed, unless the promise of an earlier call is still pending. Shows its error. The
// button is not disabled meanwhile, because it would lose the focus.
export async function press(node, act) {
  if (node.hasAttribute("aria-busy")) return;
  node.setAttribute("aria-busy", "true");
  try {
    await act();
  } catch (error) {
    toast(error.message, { failed: true });
  } finally {
    node.removeAttribute("aria-busy");
  }
}

const CONTROLS = "button, a[href]:not([tabindex]), input, select, textarea, summary";

// Returns the controls in a node that the Tab key reaches and that are shown.
export const controlsIn = (node) => [...node.querySelectorAll(CONTROLS)].filter((one) => one.checkVisibility());

// Replaces the children of a node. If one of them had the focus, the first control of the new ones gets it, or the node.
export function refill(node, ...children) {
  const hadFocus = node.contains(document.activeElement);
  node.replaceChildren(...children);
  if (hadFocus && node !== document.activeElement) focusIn(node);
}

// Gives the focus to the first control in a node, or to the node if it has none.
export function focusIn(node) {
  const [first] = controlsIn(node);
  if (!first) node.tabIndex = -1;
  (first ?? node).focus({ preventScroll: true });
}

// Returns the parts of a text in which `code` stands between backticks.
export const withCode = (text) => text.split("`").map((part, place) => (place % 2 ? el("code", {}, part) : part));

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
    const focused = document.activeElement;
    const area = el("textarea", { value: text, class: "unseen", aria: { hidden: "true" } });
    document.body.append(area);
    area.select();
    const isCopied = document.execCommand("copy");
    area.remove();
    focused.focus({ preventScroll: true });
    if (!isCopied) throw new Error("The browser did not copy it.");
  }
  toast("Copied");
}

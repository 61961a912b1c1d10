// The controls of a form, one function for each kind of field. Each returns {node, get, set}: `get` returns the value for
// the request, or undefined if nothing was entered; `set(undefined)` empties the control. A change fires "input".

import { button, el, newId } from "./dom.js";
import { fileControl } from "./file_control.js";
import { whole } from "./json.js";
import { loraControl } from "./lora_control.js";
import { spaced } from "./words.js";

function prompt(field, id) {
  const rows = field.name === "prompt" ? 4 : 2;
  return textual(field, el("textarea", { id, rows, placeholder: field.example ?? "" }));
}

function text(field, id) {
  return textual(field, el("input", { id, type: "text", placeholder: field.example ?? "" }));
}

// A text that was emptied is sent if the field has a default, which the server would use otherwise.
function textual(field, node) {
  const get = () => (node.value === "" && !field.initial ? undefined : node.value);
  return { node, get, set: (value) => (node.value = value ?? "") };
}

function number(field, id) {
  const { minimum, maximum, multipleOf, type } = field.schema;
  const step = multipleOf ?? (type === "integer" ? 1 : "any");
  const node = el("input", { id, type: "number", min: minimum, max: maximum, step, inputmode: "decimal" });
  // What is no number is sent as it is, so that the server says so at the field.
  const get = () => (node.value === "" ? (node.validity.badInput ? "" : undefined) : Number(node.value));
  return { node, get, set: (value) => (node.value = value ?? "") };
}

function slider(field, id) {
  const { minimum, maximum, multipleOf, step, type } = field.schema;
  const size = multipleOf ?? step ?? (type === "integer" ? 1 : roundStep(maximum - minimum));
  const exact = number(field, id);
  const label = { label: `${field.label}, slider` };
  const range = el("input", { type: "range", min: minimum, max: maximum, step: size, aria: label });
  const node = el("div", { class: "slider" }, range, exact.node);
  const follow = () => {
    range.value = exact.node.value === "" ? (field.initial ?? minimum) : exact.node.value;
    node.classList.toggle("unset", exact.node.value === "");
  };
  range.addEventListener("input", () => {
    exact.node.value = range.value;
    node.classList.remove("unset");
  });
  exact.node.addEventListener("input", follow);
  const set = (value) => {
    exact.set(value);
    follow();
  };
  return { node, get: exact.get, set };
}

// Returns a step of a slider that people expect, such as 0.05 or 0.5, for a range of this length.
const roundStep = (length) => [0.01, 0.05, 0.1, 0.5].find((step) => length / step <= 200) ?? 1;

function toggle(field, id) {
  const node = el("input", { id, type: "checkbox", role: "switch" });
  return {
    node,
    get: () => node.checked,
    set: (value) => {
      node.checked = value ?? false;
    },
  };
}

function choice(field, id) {
  const node = el(
    "select",
    { id },
    field.schema.enum.map((value) => el("option", { value }, choiceText(value))),
  );
  return {
    node,
    get: () => node.value,
    set: (value) => {
      node.value = value ?? field.schema.enum[0];
    },
  };
}

const choiceText = (value) => (/^[a-z_0-9]+$/.test(value) && !/^\d/.test(value) ? spaced(value) : value);

function seed(field, id) {
  const node = el("input", { id, type: "text", inputmode: "numeric", placeholder: "random" });
  const set = (value) => (node.value = value === undefined || value === null ? "" : String(value));
  const draw = () => {
    set(Math.floor(Math.random() * 2 ** 31));
    node.dispatchEvent(new Event("input", { bubbles: true }));
  };
  // What is no whole number is sent as it is, so that the server says so at the field.
  const get = () => {
    const written = node.value.trim();
    if (written === "") return undefined;
    return /^-?\d+$/.test(written) ? whole(written) : written;
  };
  const box = el("div", { class: "joined" }, node, button("Draw", draw, { class: "plain" }));
  return { node: box, get, set };
}

function size(field, id) {
  const list = el(
    "select",
    { id },
    [...field.schema.choices, "own"].map((value) =>
      el("option", { value }, value === "own" ? "Own size" : choiceText(value)),
    ),
  );
  const side = (name, value) =>
    el("input", { type: "number", min: 64, max: 4096, value, aria: { label: `${name} in pixels` } });
  const [width, height] = [side("Width", 1280), side("Height", 720)];
  const own = el("div", { class: "joined", hidden: true }, width, "×", height);
  list.addEventListener("input", () => {
    own.hidden = list.value !== "own";
  });
  const get = () => (list.value === "own" ? { width: Number(width.value), height: Number(height.value) } : list.value);
  const set = (value) => {
    list.value = typeof value === "object" ? "own" : (value ?? field.initial);
    own.hidden = list.value !== "own";
    if (typeof value === "object") [width.value, height.value] = [value.width, value.height];
  };
  return { node: el("div", {}, list, own), get, set };
}

const KINDS = {
  prompt,
  text,
  number,
  slider,
  toggle,
  choice,
  seed,
  size,
  loras: loraControl,
  video: fileControl,
  image: fileControl,
};

// Returns a field's control with its label, help and place for an error: {node, get, set, complain, tell, focus}, and what
// the control itself has besides. `tell(text)` shows what the value means, such as how many frames are new.
export function control(field) {
  const id = newId(field.name);
  const made = KINDS[field.kind](field, id);
  const help = el("p", { class: "help", id: `${id}-help` }, field.help);
  const error = el("p", { class: "error", id: `${id}-error`, role: "alert" });
  const told = el("p", { class: "told", id: `${id}-told` });
  const target = made.node.id === id ? made.node : made.node.querySelector(`#${id}`);
  target?.setAttribute("aria-describedby", `${told.id} ${help.id} ${error.id}`);
  if (field.required) target?.setAttribute("aria-required", "true");
  const label = el(
    "label",
    { for: id },
    field.label,
    field.required ? el("span", { class: "needed", title: "needed" }, " *") : null,
  );
  const node = el(
    "div",
    { class: `field of-${field.kind}`, data: { path: field.path.join(".") } },
    label,
    made.node,
    told,
    help,
    error,
  );
  // A file that could not be shown is told as long as there is no other problem.
  const complain = (message) => {
    const text = message ?? made.failure?.() ?? "";
    error.textContent = text;
    node.classList.toggle("wrong", Boolean(text));
    if (text) target?.setAttribute("aria-invalid", "true");
    else target?.removeAttribute("aria-invalid");
  };
  node.addEventListener("input", () => complain(null));
  made.onFailure?.(() => complain(null));
  const tell = (text) => (told.textContent = text);
  return { ...made, node, complain, tell, focus: () => target?.focus() };
}

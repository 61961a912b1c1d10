// The controls of a form, one function for each kind of field. Each returns {node, get, set}: `get` returns the value for
// the request, or undefined if nothing was entered; `set(undefined)` empties the control. A change fires "input".

import { el, newId } from "./dom.js";
import { fileControl } from "./file_control.js";
import { spaced } from "./words.js";

function prompt(field, id) {
  const node = el("textarea", { id, rows: field.name === "prompt" ? 4 : 2, placeholder: field.example ?? "" });
  return {
    node,
    get: () => node.value || undefined,
    set: (value) => {
      node.value = value ?? "";
    },
  };
}

function text(field, id) {
  const node = el("input", { id, type: "text", placeholder: field.example ?? "" });
  return {
    node,
    get: () => node.value || undefined,
    set: (value) => {
      node.value = value ?? "";
    },
  };
}

function number(field, id) {
  const { minimum, maximum, multipleOf, type } = field.schema;
  const step = multipleOf ?? (type === "integer" ? 1 : "any");
  const node = el("input", { id, type: "number", min: minimum, max: maximum, step, inputmode: "decimal" });
  return {
    node,
    get: () => (node.value === "" ? undefined : Number(node.value)),
    set: (value) => {
      node.value = value ?? "";
    },
  };
}

function slider(field, id) {
  const { minimum, maximum, multipleOf, step, type } = field.schema;
  const size = multipleOf ?? step ?? (type === "integer" ? 1 : (maximum - minimum) / 100);
  const exact = number(field, id);
  const range = el("input", {
    type: "range",
    min: minimum,
    max: maximum,
    step: size,
    aria: { label: `${field.label}, slider` },
  });
  range.addEventListener("input", () => {
    exact.node.value = range.value;
  });
  exact.node.addEventListener("input", () => {
    range.value = exact.node.value === "" ? (field.initial ?? minimum) : exact.node.value;
  });
  const set = (value) => {
    exact.set(value);
    range.value = value ?? field.initial ?? minimum;
  };
  return { node: el("div", { class: "slider" }, range, exact.node), get: exact.get, set };
}

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
  const node = el("input", { id, type: "text", inputmode: "numeric", pattern: "-?[0-9]+", placeholder: "random" });
  const draw = () => {
    set(Math.floor(Math.random() * 2 ** 31));
    node.dispatchEvent(new Event("input", { bubbles: true }));
  };
  // A number with more than 53 bits would be rounded, so it stays text until `requestJson` writes it.
  const get = () => (node.value.trim() === "" ? undefined : Number(node.value));
  const set = (value) => {
    node.value = value ?? "";
  };
  return {
    node: el("div", { class: "joined" }, node, el("button", { type: "button", class: "plain", onclick: draw }, "Draw")),
    get,
    set,
  };
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

function loras(field, id) {
  const rows = el("ul", { class: "loras" });
  const add = (lora = {}) => {
    const path = el("input", {
      type: "text",
      value: lora.path ?? "",
      placeholder: "owner/repository, a URL, or a file of the LoRA folder",
      aria: { label: "LoRA" },
      data: { name: "path" },
    });
    const scale = el("input", {
      type: "number",
      min: 0,
      max: 4,
      step: 0.05,
      value: lora.scale ?? 1,
      aria: { label: "Scale of the LoRA" },
      data: { name: "scale" },
    });
    const file = el("input", {
      type: "text",
      value: lora.weight_name ?? "",
      placeholder: "file name, if it has several",
      aria: { label: "File of the LoRA" },
      data: { name: "weight_name" },
    });
    const remove = () => {
      row.remove();
      rows.dispatchEvent(new Event("input", { bubbles: true }));
    };
    const row = el(
      "li",
      {},
      path,
      scale,
      file,
      el("button", { type: "button", class: "plain", onclick: remove, aria: { label: "Remove this LoRA" } }, "Remove"),
    );
    rows.append(row);
    return path;
  };
  const more = el("button", { id, type: "button", class: "plain", onclick: () => add().focus() }, "Add a LoRA");
  const get = () => {
    const found = [...rows.children]
      .map((row) => {
        const value = (name) => row.querySelector(`[data-name=${name}]`).value.trim();
        return {
          path: value("path"),
          scale: Number(value("scale")),
          ...(value("weight_name") ? { weight_name: value("weight_name") } : {}),
        };
      })
      .filter((lora) => lora.path);
    return found.length || field.required ? found : undefined;
  };
  const set = (value) => {
    rows.replaceChildren();
    for (const lora of value ?? []) add(lora);
  };
  return { node: el("div", {}, rows, more), get, set };
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
  loras,
  video: fileControl,
  image: fileControl,
};

// Returns a field's control with its label, help and place for an error: {node, get, set, complain}.
export function control(field) {
  const id = newId(field.name);
  const made = KINDS[field.kind](field, id);
  const help = el("p", { class: "help", id: `${id}-help` }, field.help);
  const error = el("p", { class: "error", id: `${id}-error`, role: "alert" });
  const target = made.node.id === id ? made.node : made.node.querySelector(`#${id}`);
  target?.setAttribute("aria-describedby", `${help.id} ${error.id}`);
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
    help,
    error,
  );
  const complain = (message) => {
    error.textContent = message ?? "";
    node.classList.toggle("wrong", Boolean(message));
    if (message) target?.setAttribute("aria-invalid", "true");
    else target?.removeAttribute("aria-invalid");
  };
  node.addEventListener("input", () => complain(null));
  return { ...made, node, complain, focus: () => target?.focus() };
}

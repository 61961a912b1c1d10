// The control of the LoRA list: a row for each LoRA, with its place, its scale and the file inside a repository.

import { callJson } from "./api.js";
import { button, el, newId } from "./dom.js";

const MOST_SCALE = 4; // as the API allows
const SLIDER_SCALE = 2; // what people use

// Returns {node, get, set} for the field `loras`.
export function loraControl(field, id) {
  const rows = el("ul", { class: "loras" });
  const names = el("datalist", { id: newId("loras") });
  const more = button("Add a LoRA", () => add().focus(), { class: "plain" });
  const node = el("div", { id, role: "group", tabindex: -1, aria: { label: field.label } }, rows, names, more);
  let hasNames = false;

  // Offers the names of the LoRAs in the server's folder. They are asked for when the first row is added.
  async function offerNames() {
    if (hasNames) return;
    hasNames = true;
    const { loras } = await callJson("page/loras").catch(() => ({ loras: [] })); // a name can be typed, too
    names.append(...loras.map((name) => el("option", { value: name })));
  }

  // Adds a row. Returns its first input.
  function add({ path: place = "", scale = 1, weight_name: file = "" } = {}) {
    offerNames();
    const input = (name, label, value, rest) =>
      el("input", { type: "text", value, aria: { label }, data: { name }, ...rest });
    const first = input("path", "LoRA", place, {
      placeholder: "owner/repository, URL or file name",
      list: names.id,
    });
    const exact = { type: "number", min: 0, max: MOST_SCALE, step: 0.05 };
    const strength = input("scale", "Scale of the LoRA", scale, exact);
    const range = el("input", {
      type: "range",
      min: 0,
      max: SLIDER_SCALE,
      step: 0.05,
      value: scale,
      aria: { label: "Scale of the LoRA, slider" },
    });
    range.addEventListener("input", () => (strength.value = range.value));
    strength.addEventListener("input", () => (range.value = strength.value));
    const inner = input("weight_name", "File of the LoRA", file, { placeholder: "its file, if there are several" });
    const away = button("Remove", remove, { class: "plain", aria: { label: "Remove this LoRA" } });
    const scaling = el("span", { class: "quiet", aria: { hidden: "true" } }, "Scale");
    const row = el("li", {}, first, away, el("div", { class: "scale" }, scaling, range), strength, inner);
    function remove() {
      row.remove();
      node.dispatchEvent(new Event("input", { bubbles: true }));
      more.focus();
    }
    rows.append(row);
    return first;
  }

  function get() {
    const found = [...rows.children].map(lora).filter(({ path }) => path);
    return found.length || field.required ? found : undefined;
  }

  function set(value) {
    rows.replaceChildren();
    if (Array.isArray(value)) value.forEach((one) => add(one ?? {}));
  }
  return { node, get, set };
}

function lora(row) {
  const [path, scale, file] = ["path", "scale", "weight_name"].map(
    (name) => row.querySelector(`[data-name=${name}]`).value,
  );
  return { path: path.trim(), scale: Number(scale), ...(file.trim() ? { weight_name: file.trim() } : {}) };
}

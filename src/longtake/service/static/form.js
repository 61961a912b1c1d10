// The form of an endpoint: its fields in groups, a JSON view, and the errors at their fields.

import { control } from "./controls.js";
import { el } from "./dom.js";
import { GROUP_NAMES } from "./schema.js";

// Builds the form of `fields` into `node`. Returns the functions of the form, which are explained below.
export function buildForm(node, fields) {
  const controls = fields.map((field) => ({ field, ...control(field) }));
  const groups = GROUP_NAMES.map((name) => ({
    name,
    members: controls.filter((one) => one.field.group === name),
  })).filter(({ members }) => members.length);
  const json = el("textarea", { class: "code", rows: 16, spellcheck: "false", aria: { label: "Request as JSON" } });
  const jsonError = el("p", { class: "error", role: "alert" });
  const general = el("p", { class: "error", role: "alert" });
  const boxes = groups.map(({ name, members }, index) =>
    el(
      "details",
      { open: index === 0, class: "group" },
      el("summary", {}, name, el("span", { class: "count" })),
      members.map((one) => one.node),
    ),
  );
  const view = el("div", { class: "fields" }, boxes);
  const switcher = el("button", { type: "button", class: "plain", onclick: () => showJson(json.hidden) }, "JSON");
  json.hidden = true;
  node.prepend(
    el(
      "div",
      { class: "panel-head" },
      el("h2", {}, "Input"),
      switcher,
      el("button", { type: "button", class: "plain", onclick: () => reset() }, "Reset"),
    ),
    view,
    json,
    jsonError,
    general,
  );

  const at = (value, path) => path.reduce((part, name) => part?.[name], value);

  // Returns the request: every field that is needed or differs from its default.
  function value() {
    const request = {};
    for (const { field, get } of controls) {
      const own = get();
      if (own === undefined || (!field.required && same(own, field.initial))) continue;
      field.path.slice(0, -1).reduce((part, name) => (part[name] ??= {}), request)[field.path.at(-1)] = own;
    }
    return request;
  }

  function set(request) {
    for (const { field, set: put } of controls) put(at(request, field.path) ?? field.initial);
    count();
    node.dispatchEvent(new Event("input", { bubbles: true }));
  }

  const reset = () => {
    complain([]);
    set({ prompt: controls.find(({ field }) => field.name === "prompt")?.field.example });
    if (!json.hidden) json.value = text();
  };
  const text = () => JSON.stringify(value(), null, 2);

  function showJson(wanted) {
    json.hidden = !wanted;
    view.hidden = wanted;
    switcher.textContent = wanted ? "Form" : "JSON";
    if (wanted) json.value = text();
  }
  json.addEventListener("input", (event) => {
    event.stopPropagation();
    try {
      const request = JSON.parse(json.value);
      jsonError.textContent = "";
      set(request);
    } catch (error) {
      jsonError.textContent = error.message;
    }
  });

  // Shows fal's list of problems at the fields that they name; those without a field are shown at the end.
  function complain(problems) {
    for (const one of controls) one.complain(null);
    const rest = [];
    for (const { loc, msg } of problems) {
      const path = loc.filter((part) => part !== "body" && typeof part === "string");
      const found =
        controls.find(({ field }) => field.path.join(".") === path.slice(0, field.path.length).join(".")) ??
        controls.find(({ field }) => field.path[0] === path[0]);
      if (found) {
        found.complain(msg);
        found.node.closest("details").open = true;
      } else rest.push(msg);
    }
    general.textContent = rest.join(" ");
    if (problems.length) {
      showJson(false);
      node.querySelector(".wrong")?.scrollIntoView({ block: "center" });
      controls.find(({ node: one }) => one.classList.contains("wrong"))?.focus();
    }
  }

  // Shows on each folded group how many of its fields differ from their defaults.
  function count() {
    groups.forEach(({ members }, index) => {
      const changed = members.filter(({ field, get }) => get() !== undefined && !same(get(), field.initial)).length;
      boxes[index].querySelector(".count").textContent = index && changed ? ` ${changed} changed` : "";
    });
  }
  node.addEventListener("input", count);
  // The prompt begins with the example of the schema, which fits any video or shows the style of a good one.
  for (const { field, set: put } of controls)
    put(field.initial ?? (field.name === "prompt" ? field.example : undefined));
  count();
  // Shows problems that a person should know while typing, without moving the page.
  function hint(problems) {
    for (const { loc, msg } of problems)
      controls.find(({ field }) => field.path.join(".") === loc.slice(1).join("."))?.complain(msg);
  }

  // Returns the request's part that consists of one field.
  function only({ field, get }) {
    return [...field.path].reverse().reduce((part, name) => ({ [name]: part }), get());
  }

  // Gives a pasted file to the field that it fits: an image to the end image, anything else to the source.
  function paste(file) {
    const kind = file.type.startsWith("image/") && file.type !== "image/gif" ? "image" : "video";
    (controls.find(({ field }) => field.kind === kind) ?? controls.find(({ field }) => field.kind === "video"))?.send(
      file,
    );
  }
  return {
    node,
    value,
    set,
    reset,
    complain,
    hint,
    only,
    paste,
    field: (name) => controls.find(({ field }) => field.name === name),
  };
}

const same = (left, right) => JSON.stringify(left) === JSON.stringify(right);

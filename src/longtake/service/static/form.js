// The form of an endpoint: its fields in groups, a JSON view, and the errors at their fields.

import { control } from "./controls.js";
import { button, el, toast } from "./dom.js";
import { parse, refusal, stringify } from "./json.js";
import { sentence } from "./problems.js";
import { GROUP_NAMES } from "./schema.js";

const QUIET_MS = 500;
const IMAGE = /\.(png|jpe?g|bmp|avif|heic|tiff?)$/i;

// Builds the form of `fields` into `node`. Returns the functions of the form, which are explained below.
export function buildForm(node, fields) {
  const controls = fields.map((field) => ({ field, ...control(field) }));
  const named = GROUP_NAMES.map((name) => ({ name, members: controls.filter(({ field }) => field.group === name) }));
  const groups = named.filter(({ members }) => members.length);
  const boxes = groups.map(group);
  const json = el("textarea", { class: "code", rows: 16, spellcheck: "false", aria: { label: "Request as JSON" } });
  const jsonError = el("p", { class: "error", role: "alert" });
  const general = el("p", { class: "error", role: "alert" });
  const view = el("div", { class: "fields" }, boxes);
  const switcher = button("JSON", () => showJson(json.hidden), { class: "plain" });
  let typing = 0;
  let read = ""; // the text of the JSON view that the form has read, or that was written of it
  let held = null; // the form's request then, as JSON; null while the form is being filled
  let isRefused = false; // whether the form's request, as it is now, was refused when it was run
  json.hidden = true;
  const resetting = button("Reset", reset, { class: "plain" });
  node.prepend(el("div", { class: "panel-head" }, el("h2", {}, "Input"), switcher, resetting));
  node.append(view, json, jsonError, general);

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

  // Fills the form with a request. A field that it does not have gets its default; the control `except` is left alone.
  function set(request, options) {
    fill(request, options);
    changed();
  }

  function fill(request, { except } = {}) {
    for (const one of controls) if (one !== except) one.set(at(request, one.field.path) ?? one.field.initial);
  }

  // The prompt begins with the example of the schema, which fits any video or shows the style of a good one.
  function begin() {
    for (const { field, set: put } of controls)
      put(field.initial ?? (field.name === "prompt" ? field.example : undefined));
    changed();
  }

  function reset() {
    complain([]);
    begin();
    writeJson();
  }

  function changed() {
    node.dispatchEvent(new Event("input", { bubbles: true }));
  }

  // Returns a sentence that says why the request is not complete yet, such as a running upload; null if it is.
  function pending() {
    if (!json.hidden) readJson();
    if (jsonError.textContent) return jsonError.textContent;
    return controls.map((one) => one.pending?.()).find(Boolean) ?? null;
  }

  function showJson(wanted) {
    if (!wanted && jsonError.textContent) {
      jsonError.scrollIntoView({ block: "nearest" });
      return;
    }
    json.hidden = !wanted;
    view.hidden = wanted;
    switcher.textContent = wanted ? "Form" : "JSON";
    if (wanted) writeJson();
  }

  function writeJson() {
    json.value = read = held = stringify(value(), 2);
    jsonError.textContent = "";
  }

  // Shows in the JSON view what was changed elsewhere, such as a dropped file. A text that is being written stays.
  function followForm() {
    if (json.hidden || held === null || json.value !== read || jsonError.textContent) return;
    if (stringify(value(), 2) !== held) writeJson();
  }

  // Fills the form from the JSON view, or says there why that is not possible. A text is read once.
  function readJson() {
    clearTimeout(typing);
    if (json.value === read) return;
    read = json.value;
    held = null;
    try {
      const request = parse(read);
      const unknown = unknownNames(request);
      jsonError.textContent = unknown.length ? `This model has no field ${unknown.join(" or ")}.` : "";
      if (!unknown.length) fill(request);
    } catch (error) {
      jsonError.textContent = refusal(read, error);
    }
    held = stringify(value(), 2);
    changed(); // with an error, too: the plan is no longer of this
  }

  // Returns the names in a request, such as "video.strenght", that are the names of no field.
  function unknownNames(value_, prefix = []) {
    if (!value_ || typeof value_ !== "object" || Array.isArray(value_)) return prefix.length ? [] : ["(not an object)"];
    return Object.keys(value_).flatMap((name) => {
      const path = [...prefix, name];
      const inside = controls.filter(({ field }) => path.every((part, place) => field.path[place] === part));
      if (!inside.length) return [path.join(".")];
      return inside[0].field.path.length > path.length ? unknownNames(value_[name], path) : [];
    });
  }

  // Returns the control of the field that a problem of fal's list names, if there is one.
  function controlOf({ loc }) {
    const path = loc.filter((part) => part !== "body" && typeof part === "string");
    const starts = ({ field }) => field.path.every((part, place) => path[place] === part);
    return controls.find(starts) ?? controls.find(({ field }) => field.path[0] === path[0]);
  }

  // Shows the problems of a plan. Those of a run are shown until something changes: a plan can come later and has fewer.
  function hint(problems) {
    if (!isRefused) mark(problems);
  }

  // Shows problems at the fields that they name, whose groups open, and those that name no field at the form's end.
  // Problems that were shown before are removed.
  function mark(problems) {
    for (const one of controls) one.complain(null);
    const named = problems.map((problem) => ({ problem, control: controlOf(problem) }));
    for (const { problem, control: one } of named) one?.complain(sentence(problem, one.field));
    const rest = named.filter(({ control: one }) => !one);
    general.textContent = rest.map(({ problem }) => sentence(problem)).join(" ");
    for (const one of node.querySelectorAll(".wrong")) one.closest("details").open = true;
  }

  // Shows the problems for which a run is refused, and leads to the first field that has one, unless the person is already
  // writing in a field.
  function complain(problems) {
    mark(problems);
    isRefused = problems.length > 0;
    const first = controls.find(({ node: one }) => one.classList.contains("wrong"));
    if (!first || view.querySelector(":is(input, textarea, select):focus")) return;
    showJson(false);
    first.node.scrollIntoView({ block: "center" });
    first.focus();
  }

  // Returns whether every field that is needed has a value, and shows it at those that have none.
  function isComplete() {
    const isEmpty = ({ field, get }) => field.required && (get() === undefined || get() === "");
    const empty = controls
      .filter(isEmpty)
      .map(({ field }) => ({ type: "missing", loc: ["body", ...field.path] }));
    if (empty.length) complain(empty);
    return empty.length === 0;
  }

  // Shows on each folded group how many of its fields differ from their defaults.
  function count() {
    groups.forEach(({ members }, index) => {
      const others = members.filter(({ field, get }) => get() !== undefined && !same(get(), field.initial)).length;
      boxes[index].querySelector(".count").textContent = index && others ? ` ${others} changed` : "";
    });
  }

  // Gives a pasted or dropped file to the field that it fits: an image to the end image, anything else to the source.
  function take(file) {
    const isImage = file.type.startsWith("image/") && !/gif|webp/.test(file.type);
    fileField(isImage)?.send(file);
  }

  // Gives a pasted or dropped URL to the field that the name of its file fits.
  function takeUrl(url) {
    const fitting = fileField(IMAGE.test(new URL(url).pathname));
    fitting?.set(url);
    fitting?.node.scrollIntoView({ block: "nearest" });
  }

  // Returns the control for an image or for a video. Tells the person if this model takes no image.
  function fileField(isImage) {
    const fitting = controls.find(({ field }) => field.kind === (isImage ? "image" : "video"));
    if (!fitting) toast("This model takes no image.", { failed: true });
    return fitting;
  }

  // Returns whether the form has this request, and no text in the JSON view that it has not read yet.
  function has(request) {
    const isRead = json.hidden || json.value === read;
    const wanted = ({ path, initial }) => at(request, path) ?? initial;
    return isRead && controls.every(({ field, get }) => same(get() ?? field.initial, wanted(field)));
  }

  // Returns whether the field at a path has its default.
  function isInitial(path) {
    const { field, get } = controls.find(({ field: own }) => own.path === path);
    return get() === undefined || same(get(), field.initial);
  }

  json.addEventListener("input", (event) => {
    event.stopPropagation();
    clearTimeout(typing);
    typing = setTimeout(readJson, QUIET_MS);
  });
  json.addEventListener("change", (event) => {
    event.stopPropagation();
    readJson();
  });
  node.addEventListener("input", () => (isRefused = false));
  node.addEventListener("input", count);
  node.addEventListener("input", followForm);
  begin();
  const field = (name) => controls.find(({ field: own }) => own.name === name);
  return { node, value, set, pending, isComplete, complain, hint, take, takeUrl, has, isInitial, field };
}

function group({ name, members }, index) {
  const title = el("summary", {}, name, el("span", { class: "count" }));
  return el("details", { open: index === 0, class: "group" }, title, ...members.map(({ node }) => node));
}

const at = (value, path) => path.reduce((part, name) => part?.[name], value);
const same = (left, right) => stringify(left) === stringify(right);

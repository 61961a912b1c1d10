// The playground of one endpoint: its form and its plan. What is not needed for them is loaded after them.

import { loading } from "./endpoint.js";
import { by, el } from "./dom.js";
import { keepDraft } from "./draft.js";
import { buildForm } from "./form.js";
import { failToBegin } from "./shell.js";
import { perUnit, soundWords } from "./words.js";

const later = Promise.all([import("./context.js"), import("./output.js"), import("./plan.js")]);
const keys = { title: "Ctrl + Enter", aria: { keyshortcuts: "Control+Enter" } };
const button = el("button", { class: "main", ...keys }, "Run");

async function start() {
  const endpoint = await loading;
  by("loading").remove();
  by("badges").append(...badges(endpoint));
  const form = buildForm(by("form"), endpoint.fields);
  const price = el("strong", { class: "price" });
  const plan = el("div", { class: "plan" });
  by("form").append(plan, el("div", { class: "run" }, button, price));
  const hasDraft = keepDraft(endpoint.id, form);
  const rest = later.then(([{ contextStrip }, { outputPanel }, { followPlan }]) => {
    const panel = outputPanel(endpoint, form, button, { hasDraft: hasDraft() });
    const onPlan = connect(form, contextStrip(form), panel);
    const source = form.field("video_url");
    return { ...panel, problems: followPlan(endpoint.id, form, { node: plan, price }, source, onPlan) };
  });
  listen(form, rest);
  (await rest).open();
}

// Lets the strip and the code follow the form. Returns the function that takes each new plan (see `followPlan`).
function connect(form, strip, { offerSettings, showCode }) {
  const source = form.field("video_url");
  let planned = null;
  source.node.querySelector(".drop").after(strip.node);
  source.onFacts(strip.show);
  source.onSettings(offerSettings);
  form.node.addEventListener("input", () => showCode(form.value(), planned));
  showCode(form.value(), null);
  return (found, isSameSource) => {
    planned = found;
    strip.mark(found?.context ?? null, isSameSource);
    showCode(form.value(), found);
  };
}

function badges({ model, standsInFor, note, price, sound }) {
  const made = standsInFor ? `${model} stands in for ${standsInFor}` : model;
  return [
    el("span", { class: standsInFor ? "badge warn" : "badge", title: note ?? "" }, made),
    el("span", { class: "badge" }, `${perUnit(price)}, nothing here`),
    el("span", { class: "badge" }, soundWords(sound)),
  ];
}

// Runs the request, and takes files and URLs that are pasted or dropped. `rest` is a promise of {problems, run}.
function listen(form, rest) {
  by("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const { problems, run } = await rest;
    // What could not be downloaded a moment ago may be there now, so it is tried again.
    const refused = problems().filter(({ type }) => type !== "file_download_error");
    if (refused.length) form.complain(refused);
    else run();
  });
  by("form").addEventListener("keydown", (event) => {
    // Enter in a field takes its value. It does not run the request, which can be long.
    if (event.key !== "Enter" || event.ctrlKey || event.metaKey || !event.target.matches("input")) return;
    event.preventDefault();
    event.target.dispatchEvent(new Event("change", { bubbles: true }));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.repeat || by("door").open) return;
    event.preventDefault();
    document.activeElement?.blur(); // so that a field that is being written, such as a URL, takes its value
    by("form").requestSubmit();
  });
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    const url = file ? null : urlIn(event.clipboardData);
    if (url && !event.target.closest(FIELDS)) {
      event.preventDefault();
      form.takeUrl(url);
    }
    // A text that came along is wanted by a field for text, but not by one for a URL: it is the name of a copied file.
    const takesText = event.target.matches("textarea, input:not([type=url])");
    const isText = event.clipboardData.types.includes("text/plain") && takesText;
    if (!file || isText) return;
    event.preventDefault();
    form.take(file);
  });
  // The browser itself puts a text into the field on which it is dropped.
  const isForField = ({ target, dataTransfer }) =>
    !dataTransfer.types.includes("Files") && target.matches("textarea, input:not([type=file])");
  document.addEventListener("dragover", (event) => isForField(event) || event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (isForField(event)) return;
    event.preventDefault(); // the browser would leave the page and open the file
    const [file] = event.dataTransfer.files;
    const url = file ? null : urlIn(event.dataTransfer);
    if (file) form.take(file);
    else if (url) form.takeUrl(url);
  });
}

const FIELDS = "input:not([type=checkbox], [type=range], [type=file]), textarea, select, dialog";

// Returns the http(s) URL that is pasted or dropped; null if it is anything else.
function urlIn(data) {
  const text = (data.getData("text/uri-list") || data.getData("text/plain")).trim();
  return /^https?:\/\/\S+$/i.test(text) && URL.canParse(text) ? text : null;
}

start().catch((error) => {
  by("loading")?.remove();
  failToBegin(error);
});

// The playground of one endpoint: its form, its plan, the running request, and its result.

import { renew } from "./shell.js";
import { Refused, callJson, fileKey, fileUrl } from "./api.js";
import { codePanel } from "./code.js";
import { contextStrip } from "./context.js";
import { by, el, toast } from "./dom.js";
import { buildForm } from "./form.js";
import { allowNotifications, notify } from "./notify.js";
import { followPlan } from "./plan.js";
import { playable } from "./player.js";
import { resultView } from "./result.js";
import { result, statuses, submit } from "./run.js";
import { runningView } from "./running.js";
import { loadEndpoint } from "./schema.js";
import { dollars, singular } from "./words.js";

const id = document.querySelector("[data-endpoint]").dataset.endpoint;
const output = by("output");
const title = document.title;
let form = null;
let source = null;
let following = new AbortController();
let release = () => {};

async function start() {
  const endpoint = await loadEndpoint(id);
  by("lead").textContent = endpoint.title;
  by("badges").append(
    el(
      "span",
      { class: endpoint.standsInFor ? "badge warn" : "badge", title: endpoint.note ?? "" },
      endpoint.standsInFor ? `${endpoint.model} stands in for ${endpoint.standsInFor}` : endpoint.model,
    ),
    el(
      "span",
      { class: "badge" },
      `${dollars(endpoint.price.unit_price)} per ${singular(endpoint.price.unit)} on fal, nothing here`,
    ),
  );
  form = buildForm(by("form"), endpoint.fields);
  source = form.field("video_url");
  const strip = contextStrip(form);
  source.node.append(strip.node);
  source.onFacts((facts, file) => strip.show(facts, file).catch(() => {}));
  source.onSettings((settings) => {
    if (settings.endpoint === id) {
      form.set({ ...settings.input, ...form.only(source) });
      toast("The settings in the file fill the form");
    }
  });
  const plan = el("div", { class: "plan", aria: { live: "polite" } });
  by("form").append(
    plan,
    el(
      "div",
      { class: "actions run" },
      el("button", { class: "main" }, "Run"),
      el("span", { class: "quiet" }, "Ctrl + Enter"),
    ),
  );
  followPlan(id, form, plan, source, (found) => strip.mark(found?.context ?? null));
  const code = codePanel(endpoint);
  by("code").append(code.node);
  by("form").addEventListener("input", () => code.show(form.value()));
  code.show(form.value());
  by("form").addEventListener("submit", (event) => {
    event.preventDefault();
    run(form.value());
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      run(form.value());
    }
  });
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (file) {
      event.preventDefault();
      form.paste(file);
    }
  });
  addEventListener("popstate", open);
  open();
}

// Shows what the page's address names: a request, a source to extend, or nothing yet.
async function open() {
  const query = new URLSearchParams(location.search);
  if (query.has("source")) source.set(fileUrl(query.get("source")));
  if (!query.has("request")) {
    idle();
    return;
  }
  const request = query.get("request");
  try {
    const entry = await callJson(`page/requests/${request}`);
    if (entry.input) form.set(entry.input);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
  }
  follow(request);
}

function idle() {
  show(
    el("h2", {}, "Result"),
    el(
      "p",
      { class: "empty" },
      "Drop a video, write what happens next, and run. The plan and the price appear before you do.",
    ),
  );
}

function show(...nodes) {
  release();
  release = () => {};
  output.replaceChildren(...nodes);
}

async function run(request) {
  form.complain([]);
  allowNotifications();
  try {
    const made = await submit(id, request);
    history.pushState(null, "", `?request=${made}`);
    renew();
    follow(made);
  } catch (error) {
    refuse(error);
  }
}

function refuse(error) {
  if (error instanceof Refused && error.detail.length) form.complain(error.detail);
  else toast(error.message, { failed: true });
}

async function follow(request) {
  following.abort();
  following = new AbortController();
  const { signal } = following;
  const view = runningView(id, request);
  show(el("h2", {}, "Running"), view.node);
  release = view.stop;
  output.scrollIntoView({ block: "nearest" });
  try {
    for await (const status of statuses(id, request, signal)) {
      view.update(status);
      document.title = `${status.status === "IN_QUEUE" ? "Waiting" : "Running"} | ${title}`;
    }
    const [made, entry] = [await result(id, request), await callJson(`page/requests/${request}`)];
    if (signal.aborted) return;
    notify("Your video is ready.");
    const { node, release: free } = await resultView(entry, made, { extend, again, four, edit });
    if (signal.aborted) {
      free();
      return;
    }
    show(el("h2", {}, "Result"), node);
    release = free;
  } catch (error) {
    if (signal.aborted) return;
    notify("A request failed.");
    if (error instanceof Refused && error.detail.length) form.complain(error.detail);
    show(
      el("h2", {}, error.message.includes("cancel") ? "Cancelled" : "It failed"),
      el("p", { class: "error", role: "alert" }, error.message),
    );
  } finally {
    if (!signal.aborted) document.title = title;
    renew();
  }
}

function extend(url) {
  following.abort();
  history.pushState(null, "", location.pathname);
  source.set(url);
  form.field("prompt").focus();
  idle();
  by("form").scrollIntoView({ block: "start" });
}

function edit(input) {
  form.set(input);
  by("form").scrollIntoView({ block: "start" });
  toast("The form has the request's settings");
}
function again(input) {
  form.set(input);
  run(form.value());
}

// Runs the request with four seeds, and shows the four results beside each other, to pick one.
async function four(input) {
  following.abort();
  following = new AbortController();
  const { signal } = following;
  const first = Math.floor(Math.random() * 2 ** 30);
  const tiles = el("div", { class: "four" });
  show(el("h2", {}, "Four seeds"), tiles);
  await Promise.all(
    [0, 1, 2, 3].map(async (number) => {
      const tile = el("div", { class: "tile" }, el("p", { class: "quiet" }, `Seed ${first + number}`));
      tiles.append(tile);
      try {
        const request = await submit(id, { ...input, seed: first + number });
        const view = runningView(id, request);
        tile.append(view.node);
        for await (const status of statuses(id, request, signal)) view.update(status);
        view.stop();
        const made = await result(id, request);
        const pick = () => {
          history.pushState(null, "", `?request=${request}`);
          open();
        };
        const { address } = await playable(`cdn/files/${fileKey(made.video.url)}`);
        tile.replaceChildren(
          el("video", { src: address, loop: true, muted: true, autoplay: true, playsinline: true, controls: true }),
          el("button", { type: "button", onclick: pick }, `Pick seed ${first + number}`),
        );
      } catch (error) {
        if (!signal.aborted) tile.append(el("p", { class: "error" }, error.message));
      }
    }),
  );
}

start().catch((error) => {
  by("lead").textContent = error.message;
});

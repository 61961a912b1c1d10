// The playground of one endpoint: its form, the running request, and its result.

import "./shell.js";
import { Refused, fileAddress, mediaAddress } from "./api.js";
import { by, el, toast } from "./dom.js";
import { buildForm } from "./form.js";
import { cancel, result, statuses, submit } from "./run.js";
import { loadEndpoint } from "./schema.js";
import { dollars, seconds } from "./words.js";

const id = document.querySelector("[data-endpoint]").dataset.endpoint;
const output = by("output");
let form = null;
let following = new AbortController();

async function start() {
  const endpoint = await loadEndpoint(id);
  by("lead").textContent = endpoint.title;
  by("badges").append(
    el("span", { class: endpoint.standsInFor ? "badge warn" : "badge", title: endpoint.note ?? "" }, endpoint.standsInFor ? `${endpoint.model} stands in for ${endpoint.standsInFor}` : endpoint.model),
    el("span", { class: "badge" }, `${dollars(endpoint.price.unit_price)} per ${endpoint.price.unit} on fal, free here`),
  );
  form = buildForm(by("form"), endpoint.fields);
  by("form").append(el("div", { class: "actions" }, el("button", { class: "main" }, "Run"), el("span", { class: "quiet" }, "Ctrl + Enter")));
  by("form").addEventListener("submit", (event) => { event.preventDefault(); run(); });
  document.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run(); });
  idle();
  const past = new URLSearchParams(location.search).get("request");
  if (past) follow(past);
}

function idle() {
  output.replaceChildren(el("h2", {}, "Result"), el("p", { class: "empty" }, "Drop a video on the left, write what happens next, and run."));
}

async function run() {
  form.complain([]);
  try {
    const request = await submit(id, form.value());
    history.replaceState(null, "", `?request=${request}`);
    follow(request);
  } catch (error) {
    if (error instanceof Refused && error.detail.length) form.complain(error.detail);
    else toast(error.message, { failed: true });
  }
}

async function follow(request) {
  following.abort();
  following = new AbortController();
  const bar = el("progress", { max: 1 });
  const stage = el("p", { class: "stage", role: "status" }, "Waiting");
  const stop = el("button", { type: "button", onclick: () => { stop.disabled = true; cancel(id, request); } }, "Cancel");
  output.replaceChildren(el("h2", {}, "Running"), bar, stage, el("div", { class: "actions" }, stop));
  try {
    for await (const status of statuses(id, request, following.signal)) {
      const { progress, queue_position: place } = status;
      if (status.status === "IN_QUEUE") stage.textContent = place ? `${place} before it` : "Next in line";
      else if (progress) {
        stage.textContent = `${progress.message}${progress.steps > 1 ? `, ${progress.step} of ${progress.steps}` : ""}`;
        bar.value = (progress.step + 0.5) / progress.steps;
      }
    }
    show(request, await result(id, request));
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error instanceof Refused && error.detail.length) form.complain(error.detail);
    output.replaceChildren(el("h2", {}, "It failed"), el("p", { class: "error", role: "alert" }, error.message));
  }
}

async function show(request, made) {
  const { address } = await mediaAddress(fileAddress(made.video.url) ?? made.video.url);
  output.replaceChildren(
    el("h2", {}, "Result"),
    el("video", { src: address, controls: true, loop: true, playsinline: true }),
    el("p", { class: "facts" }, `${made.video.width} × ${made.video.height}, ${made.video.num_frames} frames, ${seconds(made.video.duration)}, seed ${made.seed}`),
  );
}

start().catch((error) => { by("lead").textContent = error.message; });

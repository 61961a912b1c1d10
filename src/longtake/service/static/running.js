// The view of a waiting or running request: its place, all of its work on one bar, and the frames being made.

import { aboutPath, entryPath } from "./addresses.js";
import { Refused, call, callJson, serverTime } from "./api.js";
import { button, el } from "./dom.js";
import { objectUrl } from "./object_urls.js";
import { at, estimate, usualTimes } from "./progress.js";
import { cancel } from "./run.js";
import { plural, roughly, seconds } from "./words.js";

const PREVIEW_MS = 1000;
const LOOK_MS = 2000;
const SHOWN_LINES = 50;
const NEARLY_S = 1.5; // below this time left, no number is told
// Stage -> what is counted in it, where that is no step.
const STEPS = { footage: "Frame", frames: "Frame", writing: "Frame", reversing: "Frame", load: "Part" };

// Returns {node, update, stop, log} for one request. `update(status)` shows a new status, `stop` ends the preview, and
// `log` is the element with the log lines. `times` is a promise of what `usualTimes` returns.
export function runningView(endpoint, id, times = usualTimes(endpoint)) {
  const bar = el("progress", { max: 1, aria: { label: "Progress of the request" } });
  const stage = el("p", { class: "stage", role: "status" }, "Sending");
  const step = el("p", { class: "quiet steps" });
  const clock = el("p", { class: "quiet times" });
  const picture = el("img", { class: "preview", alt: "The frames being made, coarse", hidden: true });
  const log = el("ol", { class: "log" });
  const stopping = button("Cancel", end);
  const folded = el("details", {}, el("summary", {}, "Log"), log);
  const node = el(
    "div",
    { class: "running" },
    picture,
    bar,
    stage,
    step,
    clock,
    el("div", { class: "actions" }, stopping),
    folded,
  );
  const work = estimate();
  let isDownloading = false;
  let looked = -LOOK_MS;
  let began = null; // the server's time in seconds
  let previewing = false;
  let release = () => {};
  let stopped = false;
  let isEnding = false; // whether the request is being cancelled, which can take as long as a step
  times
    .then(work.setTimes)
    .catch(() => {}); // the bar is less even then
  const timer = setInterval(tick, 1000);

  async function end() {
    say("Cancelling");
    isEnding = true;
    try {
      await cancel(endpoint, id);
    } catch (error) {
      isEnding = false;
      throw error;
    }
  }

  // Changes the stage's text. A screen reader speaks it, so it changes only with the stage and not with each step.
  function say(text) {
    if (!isEnding && stage.textContent !== text) stage.textContent = text;
  }

  function update(status) {
    const { progress, queue_position: place } = status;
    if (status.status === "UNREACHABLE") say("The server does not answer; trying again");
    else if (status.status === "IN_QUEUE") {
      bar.removeAttribute("value");
      say(place ? `${plural(place, "request")} before it` : isDownloading ? "Fetching its files" : "Next in line");
      if (!place) look();
    } else if (status.status === "IN_PROGRESS") advance(progress, status.logs ?? []);
    const lines = status.logs ?? [];
    if (lines.length) log.replaceChildren(...lines.slice(-SHOWN_LINES).map(({ message }) => el("li", {}, message)));
  }

  // Asks now and again whether the request waits for the download of its files.
  async function look() {
    if (performance.now() - looked < LOOK_MS) return;
    looked = performance.now();
    const { downloading } = await callJson(entryPath(id)).catch(() => ({ downloading: false }));
    isDownloading = downloading;
  }

  function advance(progress, log) {
    began ??= log.length ? at(log[0]) : serverTime();
    if (!progress) {
      say("Starting");
      return;
    }
    const { message, stage: name, step: number, steps, pass, passes } = progress;
    say(passes > 1 ? `${message}, pass ${pass} of ${passes}` : message);
    bar.value = work.read(progress, log, serverTime());
    step.textContent = steps > 1 ? `${STEPS[name] ?? "Step"} ${Math.min(number + 1, steps)} of ${steps}` : "";
    tick();
    if (name === "sampling" && !previewing) {
      previewing = true;
      preview();
    }
  }

  // Shows how long the request has run, and how long it still takes.
  function tick() {
    if (began === null) return;
    const now = serverTime();
    const passed = seconds(Math.max(0, Math.round(now - began)));
    const rest = work.left(now);
    clock.textContent = rest === null ? passed : `${passed}, ${rest < NEARLY_S ? "nearly done" : `about ${roughly(rest)} left`}`;
  }

  // Shows a new preview each second until the view stops. A hidden page asks for none, so that none is made.
  async function preview() {
    try {
      const response = document.hidden ? null : await call(`${aboutPath(endpoint, id)}/preview`);
      if (response?.status === 200) {
        const next = objectUrl(await response.blob());
        release();
        ({ release } = next);
        picture.src = next.address;
        picture.hidden = false;
      }
    } catch (error) {
      if (error instanceof Refused && error.status < 500 && error.status !== 429) return;
    }
    if (stopped) stop();
    else setTimeout(() => stopped || preview(), PREVIEW_MS);
  }

  function stop() {
    stopped = true;
    clearInterval(timer);
    release();
  }
  return { node, update, stop, log: folded };
}

// The view of a waiting or running request: place, stage, steps, time left, and the frames being made.

import { Refused, call } from "./api.js";
import { el, toast } from "./dom.js";
import { cancel } from "./run.js";
import { plural, seconds } from "./words.js";

const PREVIEW_MS = 1000;
const SHOWN_LINES = 50;

// Returns {node, update, stop, log} for one request. `update(status)` shows a new status, `stop` ends the preview, and
// `log` is the element with the log lines.
export function runningView(endpoint, id) {
  const bar = el("progress", { max: 1, aria: { label: "Progress of the current stage" } });
  const stage = el("p", { class: "stage", role: "status" }, "Sending");
  const step = el("p", { class: "quiet steps" });
  const picture = el("img", { class: "preview", alt: "The frames being made, coarse", hidden: true });
  const log = el("ol", { class: "log" });
  const button = el("button", { type: "button", onclick: end }, "Cancel");
  const folded = el("details", {}, el("summary", {}, "Log"), log);
  const node = el(
    "div",
    { class: "running" },
    picture,
    bar,
    stage,
    step,
    el("div", { class: "actions" }, button),
    folded,
  );
  const began = { at: 0, done: 0 };
  let previewing = false;
  let address = null;
  let stopped = false;

  async function end() {
    button.disabled = true;
    say("Cancelling");
    try {
      await cancel(endpoint, id);
    } catch (error) {
      button.disabled = false;
      toast(error.message, { failed: true });
    }
  }

  // Changes the stage's text. A screen reader speaks it, so it changes only with the stage and not with each step.
  function say(text) {
    if (stage.textContent !== text) stage.textContent = text;
  }

  function update(status) {
    const { progress, queue_position: place } = status;
    if (status.status === "UNREACHABLE") say("The server does not answer; trying again");
    else if (status.status === "IN_QUEUE") {
      bar.removeAttribute("value");
      say(place ? `${plural(place, "request")} before it` : "Next in line");
    } else if (status.status === "IN_PROGRESS") advance(progress);
    const lines = status.logs ?? [];
    if (lines.length) log.replaceChildren(...lines.slice(-SHOWN_LINES).map(({ message }) => el("li", {}, message)));
  }

  function advance(progress) {
    if (!progress) {
      say("Starting");
      return;
    }
    const { message, stage: name, step: number, steps, pass, passes, window, windows } = progress;
    say(passes > 1 ? `${message}, pass ${pass} of ${passes}` : message);
    const all = steps * windows * passes;
    const done = ((window - 1) * passes + pass - 1) * steps + number;
    bar.value = done / all;
    const parts = [steps > 1 && `Step ${Math.min(number + 1, steps)} of ${steps}`, timeLeft(name, done, all)];
    step.textContent = parts.filter(Boolean).join(", ");
    if (name === "sampling" && !previewing) {
      previewing = true;
      preview();
    }
  }

  // Returns how long the sampling still takes, from the steps since this view saw the first one.
  function timeLeft(name, done, all) {
    if (name !== "sampling") {
      began.at = 0;
      return "";
    }
    const now = performance.now();
    if (!began.at || done < began.done) Object.assign(began, { at: now, done });
    const steps = done - began.done;
    if (steps < 2) return "";
    const left = ((now - began.at) / steps) * (all - done);
    return `about ${seconds(Math.max(1, Math.round(left / 1000)))} of sampling left`;
  }

  // Shows a new preview each second until the view stops. A hidden page asks for none, so that none is made.
  async function preview() {
    try {
      const response = document.hidden ? null : await call(`models/${endpoint}/requests/${id}/preview`);
      if (response?.status === 200) {
        const next = URL.createObjectURL(await response.blob());
        if (address) URL.revokeObjectURL(address);
        address = next;
        picture.src = next;
        picture.hidden = false;
      }
    } catch (error) {
      if (error instanceof Refused && error.status < 500) return;
    }
    if (stopped) stop();
    else setTimeout(() => stopped || preview(), PREVIEW_MS);
  }

  function stop() {
    stopped = true;
    if (address) URL.revokeObjectURL(address);
    address = null;
  }
  return { node, update, stop, log: folded };
}

// The view of a waiting or running request: place, stage, steps, time left, and the frames being made.

import { call, Refused } from "./api.js";
import { el } from "./dom.js";
import { cancel } from "./run.js";
import { plural, seconds } from "./words.js";

const PREVIEW_MS = 1000;

// Returns {node, update, stop} for one request. `update(status)` shows a new status; `stop` ends the preview.
export function runningView(endpoint, id) {
  const bar = el("progress", { max: 1, aria: { label: "Progress of the current stage" } });
  const stage = el("p", { class: "stage", role: "status" }, "Sending");
  const left = el("p", { class: "quiet" });
  const picture = el("img", { class: "preview", alt: "The frames being made, coarse", hidden: true });
  const log = el("ol", { class: "log" });
  const button = el(
    "button",
    {
      type: "button",
      onclick: () => {
        button.disabled = true;
        stage.textContent = "Cancelling";
        cancel(endpoint, id);
      },
    },
    "Cancel",
  );
  const node = el(
    "div",
    { class: "running" },
    picture,
    bar,
    stage,
    left,
    el("div", { class: "actions" }, button),
    el("details", {}, el("summary", {}, "Log"), log),
  );
  const began = { at: 0, done: 0 };
  let timer = 0;
  let address = null;
  let stopped = false;

  function update(status) {
    const { progress, queue_position: place } = status;
    if (status.status === "UNREACHABLE") {
      stage.textContent = "The server does not answer; trying again";
      return;
    }
    if (status.status === "IN_QUEUE") {
      bar.removeAttribute("value");
      stage.textContent = place ? `${plural(place, "request")} before it` : "Next in line";
    }
    if (status.status === "IN_PROGRESS" && !progress) stage.textContent = "Starting";
    if (status.status === "IN_PROGRESS" && progress) {
      const parts = [progress.message];
      if (progress.passes > 1) parts.push(`pass ${progress.pass} of ${progress.passes}`);
      if (progress.steps > 1) parts.push(`step ${Math.min(progress.step + 1, progress.steps)} of ${progress.steps}`);
      stage.textContent = parts.join(", ");
      const all = progress.steps * progress.windows * progress.passes;
      const done = ((progress.window - 1) * progress.passes + progress.pass - 1) * progress.steps + progress.step;
      bar.value = done / all;
      left.textContent = timeLeft(progress.stage, done, all);
      if (progress.stage === "sampling" && !timer) preview();
    }
    if (status.logs?.length) log.replaceChildren(...status.logs.slice(-50).map(({ message }) => el("li", {}, message)));
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
    return steps < 2
      ? ""
      : `About ${seconds(Math.max(1, Math.round((((now - began.at) / steps) * (all - done)) / 1000)))} of sampling left`;
  }

  async function preview() {
    if (stopped) return;
    try {
      const response = document.hidden ? { status: 204 } : await call(`models/${endpoint}/requests/${id}/preview`);
      if (response.status === 200 && !stopped) {
        const next = URL.createObjectURL(await response.blob());
        picture.src = next;
        picture.hidden = false;
        if (address) URL.revokeObjectURL(address);
        address = next;
      }
    } catch (error) {
      if (error instanceof Refused) return;
    }
    timer = setTimeout(preview, PREVIEW_MS);
  }

  function stop() {
    stopped = true;
    clearTimeout(timer);
    if (address) URL.revokeObjectURL(address);
  }
  return { node, update, stop };
}

// The plan and the price of the request in the form, before it runs.

import { Refused, callJson } from "./api.js";
import { el } from "./dom.js";
import { dollars } from "./words.js";

const QUIET_MS = 500;

// Follows the form: after each change that is followed by a pause, asks for the plan of its request and shows it.
// `onPlan(plan)` is called with each new plan, and with null where there is none.
export function followPlan(endpoint, form, node, source, onPlan) {
  let timer = 0;
  let asking = new AbortController();

  async function ask() {
    asking.abort();
    asking = new AbortController();
    const { signal } = asking;
    if (!source.get()) {
      node.replaceChildren();
      onPlan(null);
      return;
    }
    node.classList.add("stale");
    try {
      const plan = await callJson(`models/${endpoint}/plan`, { json: form.value(), signal });
      node.replaceChildren(...drawn(plan));
      onPlan(plan);
    } catch (error) {
      if (signal.aborted) return;
      node.replaceChildren();
      onPlan(null);
      // A person who is still typing is not told that a field is empty; running the request tells.
      if (error instanceof Refused) form.hint(error.detail.filter(({ input }) => input !== undefined && input !== ""));
    } finally {
      if (!signal.aborted) node.classList.remove("stale");
    }
  }

  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(ask, QUIET_MS);
  };
  form.node.addEventListener("input", later);
  later();
}

function drawn(plan) {
  const rows = (title, list) =>
    el(
      "section",
      {},
      el("h3", {}, title),
      el(
        "dl",
        {},
        list.map(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]),
      ),
    );
  return [
    el(
      "p",
      { class: "price" },
      el("strong", {}, dollars(plan.price_usd)),
      el(
        "span",
        { class: "quiet" },
        ` on fal, nothing here · ${plan.context.num_frames} frames, ${plan.context.new_frames} of them new`,
      ),
    ),
    plan.prompt.expanded
      ? el("p", { class: "quiet" }, "Expanded prompt: ", plan.prompt.expanded)
      : plan.prompt.expands
        ? el("p", { class: "quiet" }, "The prompt will be expanded before the frames are made.")
        : null,
    ...plan.notes.map((note) => el("p", { class: "note" }, note)),
    el(
      "details",
      {},
      el("summary", {}, "The whole plan"),
      plan.sections.map(({ title, rows: list }) => rows(title, list)),
    ),
  ].filter(Boolean);
}

// The plan and the price of the request in the form, before it runs.

import { announcer } from "./announcer.js";
import { Refused, callJson } from "./api.js";
import { button, el, refill, withCode } from "./dom.js";
import { dollars, plural } from "./words.js";

const QUIET_MS = 500;

// Follows the form: after each change that is followed by a pause, asks for the plan of its request and shows it.
// The price is written into the element `price`. `onPlan(plan, isSameSource)` is called with each new plan, and with null
// where there is none; `isSameSource` is whether the context of the plan before still belongs to the source.
// Returns a function that returns the problems for which the server refuses the form's request; none while that is not
// known.
export function followPlan(endpoint, form, { node, price }, source, onPlan) {
  const speech = announcer();
  let timer = 0;
  let asking = new AbortController();
  let planned = source.get(); // the source of the plan that is shown
  let problems = [];

  async function ask() {
    const { signal } = asking;
    if (!source.get() || form.pending()) {
      show([], null);
      return;
    }
    try {
      const plan = await callJson(`models/${endpoint}/plan`, { json: form.value(), signal });
      if (signal.aborted) return;
      form.hint([]);
      show(drawn(plan, form), plan);
    } catch (error) {
      if (signal.aborted) return;
      problems = error instanceof Refused ? error.detail : [];
      // A person who is still typing is not told that a field is empty; running the request tells.
      form.hint(problems.filter(({ type }) => type !== "missing"));
      show(problems.length ? [] : [el("p", { class: "error" }, error.message)], null, true);
    }
  }

  function show(nodes, plan, isSameSource = false) {
    setStale(false);
    const isOpen = node.querySelector("details")?.open ?? false;
    refill(node, ...nodes);
    node.querySelector("details")?.toggleAttribute("open", isOpen);
    price.textContent = plan ? summary(plan) : "";
    if (plan) speech.say(price.textContent);
    onPlan(plan, isSameSource);
  }

  function setStale(isStale) {
    for (const one of [node, price]) one.classList.toggle("stale", isStale);
    form.node.classList.toggle("planning", isStale);
  }

  function later() {
    clearTimeout(timer);
    asking.abort();
    asking = new AbortController();
    problems = [];
    if (source.get() !== planned) show([], null);
    planned = source.get();
    setStale(true);
    if (planned && !price.textContent) price.textContent = "Planning…";
    timer = setTimeout(ask, QUIET_MS);
  }
  price.after(speech.node);
  form.node.addEventListener("input", later);
  later();
  return () => problems;
}

const summary = ({ price_usd: price, context }) =>
  `${dollars(price)} on fal, nothing here · ${plural(context.num_frames, "frame")}, ${context.new_frames} new`;

// Returns the elements of a plan. Without a seed in the form, each run draws another one than the plan.
function drawn({ prompt, notes, sections }, form) {
  const hasSeed = form.value().seed !== undefined;
  const rows = (list) =>
    list.filter(([name]) => hasSeed || name !== "seed").map(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]);
  const parts = sections.map(({ title, rows: list }) =>
    el("section", {}, el("h3", {}, title), el("dl", {}, rows(list))),
  );
  return [
    ...expansion(prompt, form),
    ...notes.map((note) => el("p", { class: "note" }, withCode(note))),
    el("details", {}, el("summary", {}, "The whole plan"), parts),
  ];
}

// Returns the elements about the expansion of the prompt. The expanded prompt can be taken into the form, to change it.
function expansion({ expands, expanded }, form) {
  if (!expanded) return expands ? [el("p", { class: "quiet" }, "The prompt is expanded before the frames are made.")] : [];
  const edit = () => {
    form.field("prompt").set(expanded);
    (form.field("expand_prompt") ?? form.field("enable_prompt_expansion"))?.set(false);
    form.node.dispatchEvent(new Event("input", { bubbles: true }));
    form.field("prompt").focus();
  };
  const editing = button("Edit it and do not expand it again", edit, { class: "plain" });
  return [el("div", { class: "expanded" }, el("h3", {}, "Expanded prompt"), el("p", { class: "quiet" }, expanded), editing)];
}

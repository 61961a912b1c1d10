// The source's own strip of frames, with the context marked on it, and handles that change the context.

import { fileKey, mediaAddress } from "./api.js";
import { el } from "./dom.js";

const HEIGHT = 72;
const FRAMES = 16;

// The length of the context at the source's end, or at its beginning if the new frames come first.
const lengthOf = (frame, { facts, context }) => (context.new_first ? frame : facts.num_frames - frame);
const inner = ({ new_first: isFirst }) => (isFirst ? "stop" : "first");

// The fields that limit the context, each with a handle on the strip: `edge` is the edge of the context that the handle
// moves, `value` the field's value when the handle is at a frame, and `also` the fields that are set with it.
const LIMITS = [
  { name: "num_context_frames", edge: inner, value: lengthOf },
  { name: "context", edge: inner, value: (frame, now) => Math.round((lengthOf(frame, now) / now.facts.fps) * 10) / 10 },
  { name: "start_frame_num", edge: () => "first", value: (frame) => frame },
  {
    name: "max_num_frames",
    edge: () => "stop",
    value: (frame, { context }) => frame - context.first,
    also: { limit_num_frames: true },
  },
];

// Builds the strip below the source's control. Returns {node, show, mark}: `show(facts, file)` shows another source (null:
// none), and `mark(context)` marks the context of a plan: {first, stop, new_first, new_frames}.
export function contextStrip(form) {
  const picture = el("img", { alt: "Frames of the source, evenly spaced" });
  const outside = [el("div", { class: "shade" }), el("div", { class: "shade" })];
  const handles = LIMITS.filter(({ name }) => form.field(name)).map((limit) => handle(limit));
  const added = el("div", { class: "added" });
  const line = el("div", { class: "strip" }, picture, outside, ...handles);
  const words = el("p", { class: "facts" });
  const node = el("div", { class: "context", hidden: true }, el("div", { class: "strip-row" }, line, added), words);
  let facts = null;
  let context = null;
  let release = () => {};

  async function show(found, own) {
    facts = found;
    context = null;
    node.hidden = true;
    release();
    release = () => {};
    if (!found) return;
    const strip = await mediaAddress(`media/${fileKey(`/${own}`)}/strip?frames=${FRAMES}&height=${HEIGHT}`);
    if (facts !== found) {
      strip.release();
      return;
    }
    ({ release } = strip);
    picture.src = strip.address;
    node.hidden = false;
    draw();
  }

  function mark(next) {
    context = next;
    draw();
  }

  function draw() {
    for (const one of handles) one.hidden = !context;
    added.textContent = context ? `+${context.new_frames}` : "";
    words.textContent = context ? sentence(context, facts) : "";
    if (!facts || !context) return;
    const share = (frame) => `${(100 * frame) / facts.num_frames}%`;
    const { first, stop } = context;
    outside[0].style.cssText = `left:0;width:${share(first)}`;
    outside[1].style.cssText = `left:${share(stop)};right:0`;
    node.classList.toggle("backward", context.new_first);
    for (const one of handles) one.place(share);
  }

  // Returns the handle of a limit. It is moved by the pointer and by the arrow keys.
  function handle({ name, edge, value, also = {} }) {
    const control = form.field(name);
    const { minimum = 0, maximum = Infinity, multipleOf: step = 1 } = control.field.schema;
    const knob = el("div", { class: "handle", role: "slider", tabindex: 0, aria: { label: control.field.label } });
    knob.place = (share) => {
      const frame = context[edge(context)];
      knob.style.left = share(frame);
      knob.setAttribute("aria-valuemin", 0);
      knob.setAttribute("aria-valuemax", facts.num_frames);
      knob.setAttribute("aria-valuenow", frame);
      knob.setAttribute("aria-valuetext", `frame ${frame} of ${facts.num_frames}`);
    };
    function moveTo(frame) {
      const bounded = Math.max(0, Math.min(facts.num_frames, Math.round(frame)));
      const wanted = Math.min(maximum, Math.max(minimum, value(bounded, { facts, context })));
      control.set(step > 1 ? Math.round(wanted / step) * step : wanted);
      for (const [other, set] of Object.entries(also)) form.field(other)?.set(set);
      context = { ...context, [edge(context)]: bounded };
      draw();
      control.node.dispatchEvent(new Event("input", { bubbles: true }));
    }
    knob.addEventListener("pointerdown", (event) => {
      knob.setPointerCapture(event.pointerId);
      event.preventDefault();
      knob.focus();
    });
    knob.addEventListener("pointermove", (event) => {
      if (!knob.hasPointerCapture(event.pointerId)) return;
      const box = line.getBoundingClientRect();
      moveTo(((event.clientX - box.left) / box.width) * facts.num_frames);
    });
    knob.addEventListener("keydown", (event) => {
      const frames = { ArrowLeft: -1, ArrowRight: 1, PageDown: -8, PageUp: 8 }[event.key];
      if (!frames || !context) return;
      event.preventDefault();
      moveTo(context[edge(context)] + frames * step);
    });
    return knob;
  }
  return { node, show, mark };
}

function sentence({ first, stop, new_frames: count, new_first: isFirst }, { num_frames: all }) {
  if (stop <= first) return `The model sees no frame of the source; ${count} frames are new.`;
  const place = isFirst ? "before" : "after";
  return `The model sees frames ${first + 1} to ${stop} of ${all}; ${count} new frames come ${place} them.`;
}

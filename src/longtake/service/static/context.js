// The source's own strip of frames, with the context marked on it, and a handle that changes the context.

import { fileKey, mediaAddress } from "./api.js";
import { el } from "./dom.js";

const HEIGHT = 72;
const FRAMES = 16;

// Fields with which a request limits its context, the first that the endpoint has: `frames` is the number of source
// frames outside the context at the handle's side, `value` the field's value for it.
const LIMITS = [
  { name: "num_context_frames", atEnd: true, toFrames: (value) => value, toValue: (frames) => frames },
  {
    name: "context",
    atEnd: true,
    toFrames: (value, facts) => value * facts.fps,
    toValue: (frames, facts) => Math.round((frames / facts.fps) * 10) / 10,
  },
  { name: "start_frame_num", atEnd: false, toFrames: (value) => value, toValue: (frames) => frames },
];

// Builds the strip below the source's control. Returns {show, mark}: `show(facts, file)` shows another source (null: none),
// and `mark(context)` marks the context of a plan: {first, stop, new_first, new_frames}.
export function contextStrip(form) {
  const limit = LIMITS.map((one) => ({ ...one, control: form.field(one.name) })).find(({ control }) => control);
  const picture = el("img", { alt: "Frames of the source, evenly spaced" });
  const outside = [el("div", { class: "shade" }), el("div", { class: "shade" })];
  const handle = el("div", {
    class: "handle",
    role: "slider",
    tabindex: 0,
    aria: { label: limit ? limit.control.field.label : "Context" },
  });
  const added = el("div", { class: "added" });
  const line = el("div", { class: "strip" }, picture, outside, limit ? handle : null);
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
    if (!facts) return;
    const share = (frame) => `${(100 * frame) / facts.num_frames}%`;
    const { first, stop } = context ?? { first: 0, stop: 0 };
    outside[0].style.cssText = `left:0;width:${share(first)}`;
    outside[1].style.cssText = `left:${share(stop)};right:0`;
    const backward = context?.new_first;
    node.classList.toggle("backward", Boolean(backward));
    handle.style.left = share(backward ? stop : first);
    handle.setAttribute("aria-valuenow", stop - first);
    handle.setAttribute("aria-valuetext", `${stop - first} frames of context`);
    added.textContent = context ? `+${context.new_frames}` : "";
    words.textContent =
      context &&
      (stop > first
        ? `The model sees frames ${first + 1} to ${stop} of ${facts.num_frames}; ${context.new_frames} new frames come ${backward ? "before" : "after"} them.`
        : `The model sees no frame of the source; ${context.new_frames} frames are new.`);
  }

  // Moves the handle to a source frame, and writes the field.
  function moveTo(frame) {
    const bounded = Math.max(0, Math.min(facts.num_frames, Math.round(frame)));
    const frames = !limit.atEnd || context?.new_first ? bounded : facts.num_frames - bounded;
    const { field, set, node: own } = limit.control;
    const { minimum = 0, maximum = Infinity, multipleOf: step = 1 } = field.schema;
    const value = Math.min(maximum, Math.max(minimum, limit.toValue(frames, facts)));
    set(step > 1 ? Math.round(value / step) * step : value);
    context = { ...context, [context?.new_first ? "stop" : "first"]: bounded };
    draw();
    own.dispatchEvent(new Event("input", { bubbles: true }));
  }

  const frameAt = (event) => {
    const box = line.getBoundingClientRect();
    return ((event.clientX - box.left) / box.width) * facts.num_frames;
  };
  handle.addEventListener("pointerdown", (event) => {
    handle.setPointerCapture(event.pointerId);
    event.preventDefault();
    handle.focus();
  });
  handle.addEventListener("pointermove", (event) => {
    if (handle.hasPointerCapture(event.pointerId)) moveTo(frameAt(event));
  });
  handle.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: -1, ArrowRight: 1, PageDown: -8, PageUp: 8 };
    if (!(event.key in moves) || !context) return;
    event.preventDefault();
    const step = limit.control.field.schema.multipleOf ?? 1;
    moveTo((context.new_first ? context.stop : context.first) + moves[event.key] * step);
  });
  return { node, show, mark };
}

// The source's own strip of frames, with the context marked on it, and handles that change the context.

import { fileKey, mediaAddress } from "./api.js";
import { el } from "./dom.js";

const HEIGHT = 72;
const FRAMES = 16;

// The edge of the context that can be moved: the one far from the new frames. The context may be at the source's start,
// because the new frames come first or because the source is played backwards.
const edge = ({ facts, context }) => (context.new_first || context.stop < facts.num_frames ? "stop" : "first");
const inner = (now) => now.context[edge(now)];
const lengthTo = (frame, now) => (edge(now) === "stop" ? frame : now.facts.num_frames - frame);

// The frame at which the handle of a field is: that of the length that was asked for, or the edge of the context. The
// model may see less than was asked for, because its windows have fixed lengths.
const asked = (now) =>
  now.own === undefined ? inner(now) : Math.max(0, Math.min(now.facts.num_frames, lengthTo(now.own, now)));

// The fields that limit the context, each with a handle on the strip: `place` is the frame at which the handle is,
// `value` the field's value when the handle is at another frame, and `also` the fields that are set with it.
const LIMITS = [
  { name: "num_context_frames", place: asked, value: lengthTo },
  {
    name: "context",
    place: inner,
    value: (frame, now) => Math.round((lengthTo(frame, now) / now.facts.fps) * 10) / 10,
  },
  { name: "max_num_frames", place: inner, value: lengthTo, also: { limit_num_frames: true } },
  { name: "start_frame_num", place: ({ own }) => own ?? 0, value: (frame) => frame },
];

// Builds the strip below the source's control. Returns {node, show, mark}: `show(facts, file)` shows another source
// (null: none), and `mark(context)` marks the context of a plan: {first, stop, new_first, new_frames}, or nothing.
export function contextStrip(form) {
  const picture = el("img", { alt: "Frames of the source, evenly spaced" });
  const outside = [el("div", { class: "shade" }), el("div", { class: "shade" })];
  const handles = LIMITS.filter(({ name }) => form.field(name)).map(handle);
  const knobs = handles.map(({ knob }) => knob);
  const added = el("div", { class: "added" });
  const line = el("div", { class: "strip" }, picture, outside, knobs);
  const words = el("p", { class: "facts", role: "status" });
  const node = el("div", { class: "context", hidden: true }, el("div", { class: "strip-row" }, line, added), words);
  let facts = null;
  let context = null;
  let release = () => {};

  async function show(found, own) {
    facts = found;
    node.hidden = !found;
    picture.hidden = true;
    line.classList.add("loading");
    draw();
    release();
    release = () => {};
    if (!found) return;
    const strip = await mediaAddress(`media/${fileKey(own)}/strip?frames=${FRAMES}&height=${HEIGHT}`);
    if (facts !== found) {
      strip.release();
      return;
    }
    ({ release } = strip);
    picture.src = strip.address;
    await picture.decode().catch(() => {}); // another source may take its place
    if (facts !== found) return;
    picture.hidden = false;
    line.classList.remove("loading");
  }

  function mark(next) {
    context = next;
    draw();
  }

  // Draws the context of the newest plan. Without one, no frame is marked and nothing can be moved.
  function draw() {
    const known = facts !== null && context !== null;
    for (const one of [...knobs, ...outside]) one.hidden = !known;
    added.textContent = known ? `+${context.new_frames}` : "";
    words.textContent = known ? sentence(context, facts) : "";
    if (!known) return;
    const share = (frame) => `${(100 * frame) / facts.num_frames}%`;
    outside[0].style.cssText = `left:0;width:${share(context.first)}`;
    outside[1].style.cssText = `left:${share(context.stop)};right:0`;
    node.classList.toggle("backward", context.new_first);
    for (const { knob, place } of handles) {
      const frame = place();
      knob.style.left = share(frame);
      knob.setAttribute("aria-valuemax", facts.num_frames);
      knob.setAttribute("aria-valuenow", frame);
      knob.setAttribute("aria-valuetext", `frame ${frame} of ${facts.num_frames}`);
    }
  }

  // Returns the handle of a limit: its element, and the frame at which it is. The pointer and the arrow keys move it.
  function handle({ name, place, value, also = {} }) {
    const control = form.field(name);
    const { minimum = 0, maximum = Infinity, multipleOf: step = 1 } = control.field.schema;
    const label = { label: control.field.label, valuemin: 0 };
    const knob = el("div", { class: "handle", role: "slider", tabindex: 0, aria: label });
    const now = () => ({ facts, context, own: control.get() });

    function moveTo(frame) {
      if (!facts || !context) return;
      const bounded = Math.max(0, Math.min(facts.num_frames, Math.round(frame)));
      const wanted = Math.min(maximum, Math.max(minimum, value(bounded, now())));
      control.set(step > 1 ? Math.round(wanted / step) * step : wanted);
      for (const [other, set] of Object.entries(also)) form.field(other)?.set(set);
      if (name !== "start_frame_num") context = { ...context, [edge(now())]: bounded };
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
      moveTo(place(now()) + frames * step);
    });
    return { knob, place: () => place(now()) };
  }
  return { node, show, mark };
}

function sentence({ first, stop, new_frames: count, new_first: isFirst }, { num_frames: all }) {
  if (stop <= first) return `The model sees no frame of the source; ${count} frames are new.`;
  const place = isFirst ? "before" : "after";
  return `The model sees frames ${first + 1} to ${stop} of ${all}; ${count} new frames come ${place} them.`;
}

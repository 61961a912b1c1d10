// The fields that limit which frames of the source are used, as the handles on the source's strip of frames set them.

import { plural } from "./words.js";

const STEP = 8;

// Returns the limits of a form, one for each handle on the strip. A limit is an object with these members:
//
// control: the control of its field.
// isOn(context): whether it counts for this context of a plan.
// isFixed(context, facts): whether there is only one place for its handle, which is not shown then.
// edge(context): the frame at which its handle is.
// stride(context, facts): the frames by which its handle moves.
// at(frame, context, facts): {edge, value, stopped} for a handle that is moved to a frame: the frame at which it stays,
//   the field's value for that, and the sentence that says why it did not go on, or "".
// moved(context, edge): the context with the handle at another frame, until the server has planned it.
// set(value), clear(): write the field and those that belong to it, and set them back.
// said(): the sentence about fields that are not at their defaults, or null. `undo` names the button that calls `clear`.
// help(context, facts): the sentence about the handle.
export function limitsOf(form) {
  const has = (name) => form.field(name) !== undefined;
  return [
    has("num_context_frames") && seenLimit(form, "num_context_frames", (count) => count),
    has("context") && seenLimit(form, "context", (count, rate) => Math.round((100 * count) / rate) / 100),
    has("max_num_frames") && usedLimit(form),
    has("start_frame_num") && startLimit(form),
  ].filter(Boolean);
}

// Returns the frames of the source that the result shows, or those that the model sees if the source only guides it.
export const used = ({ shown_first: first, shown_stop: stop, ...seen }) =>
  first < stop ? [first, stop] : [seen.first, seen.stop];

// Returns a number of frames without the error of its division: 25 frames at 24000/1001 per second would be fewer than 25.
const exact = (count) => Number(count.toFixed(6));

const stride = ({ rate }, { fps }) => (STEP * fps) / rate;

// Returns the number of frames from one frame of the source to the joint, at the rate at which the source is read, and
// the frame that is so far from the joint.
const countTo = (frame, { at_start: atStart, rate }, { num_frames: all, fps }) =>
  exact(((atStart ? frame : all - frame) * rate) / fps);
const frameOf = (count, { at_start: atStart, rate }, { num_frames: all, fps }) => {
  const around = Math.max(0, (fps / rate - 1) / 2); // frames of the source on each side of one at a lower rate
  const own = Math.min(all, Math.ceil(exact((count * fps) / rate - around)));
  return atStart ? own : all - own;
};

// A context has 8k+1 frames. The one of a backward extension, which ends the model's window, has 8k.
const beginning = (context) => (context.at_start && context.new_first ? STEP : 1);
const onGrid = (count, from, round) => (count < from / 2 ? 0 : Math.max(from, round((count - from) / STEP) * STEP + from));

// Returns the numbers of frames at which a handle stops: {from, lowest, highest, longest}. `bounds` are the largest
// numbers, each with the sentence about it, and `least` is the smallest number. `longest` is the sentence of the bound
// that counts.
function lengths(from, least, bounds) {
  const [most, longest] = bounds.reduce((left, right) => (right[0] < left[0] ? right : left));
  const highest = onGrid(most, from, Math.floor);
  const lowest = Math.min(highest, least === 0 ? 0 : onGrid(least, from, Math.ceil));
  return { from, lowest, highest, longest };
}

const isSingle = ({ lowest, highest }) => lowest === highest;

// Returns the sentence about the numbers of frames at which a handle stops.
function stops({ from, lowest, highest }) {
  const counts = lowest === 0 ? [0] : [];
  for (let count = Math.max(lowest, from); count <= highest; count += STEP) counts.push(count);
  const last = counts.pop();
  const listed = counts.length > 4 ? [...counts.slice(0, 4), "…"] : counts;
  const after = from === 1 ? " after the first" : "";
  return `It stops at ${listed.join(", ")} or ${last} frames, because the model takes 8 at a time${after}.`;
}

// Returns {count, stopped} for a wanted number of frames: the nearest one that can be, and why it is not nearer.
// `shortest` is the sentence about the smallest number.
function nearest(wanted, { from, lowest, highest, longest }, shortest) {
  const count = Math.min(highest, Math.max(lowest, onGrid(wanted, from, Math.round)));
  const isLonger = wanted > highest + STEP / 2;
  const isShorter = wanted < lowest - STEP / 2;
  return { count, stopped: isLonger ? longest : isShorter ? shortest : "" };
}

const noMore = ({ num_frames: all }, what) => `The source has ${plural(all, "frame")}; ${what} in steps of 8.`;

// What the limits have in common whose handle sets a number of frames: one that has no choice has no handle.
const common = (control, edge, possible) => ({
  control,
  edge,
  stride,
  isOn: () => true,
  isFixed: (context, facts) => isSingle(possible(context, facts)),
});

// The limit of a field with the length of the context. `valueOf(count, rate)` returns the field's value for a number of
// frames.
function seenLimit(form, name, valueOf) {
  const control = form.field(name);
  const { label, initial, schema } = control.field;
  const perFrame = (rate) => valueOf(1000, rate) / 1000;
  const edge = ({ at_start: atStart, first, stop }) => (atStart ? stop : first);

  function possible(context, facts) {
    const { at_start: atStart, rate, most_seen: mostSeen, counted, new_frames: made } = context;
    const from = beginning(context);
    const seen = `${plural(onGrid(mostSeen, from, Math.floor), "frame")} of the source`;
    const bounds = [
      [countTo(atStart ? facts.num_frames : 0, context, facts), noMore(facts, "the context has no more")],
      [mostSeen, `This model sees at most ${seen}${from === STEP ? " when it extends backward" : ""}.`],
      [schema.maximum / perFrame(rate), `${label} is at most ${schema.maximum}.`],
      ...(name === "context" ? [] : [[counted + made - 1, `Number of frames is ${counted + made}; some must be new.`]]),
    ];
    return lengths(from, (schema.minimum ?? 0) / perFrame(rate), bounds);
  }
  function at(frame, context, facts) {
    const { rate } = context;
    const all = possible(context, facts);
    const shortest = all.lowest ? `The context has at least ${plural(all.lowest, "frame")}.` : "The context is empty.";
    const { count, stopped } = nearest(countTo(frame, context, facts), all, shortest);
    const value = Math.min(schema.maximum, Math.max(schema.minimum ?? 0, valueOf(count, rate)));
    return { edge: frameOf(count, context, facts), value, stopped };
  }
  function help(context, facts) {
    const all = possible(context, facts);
    if (isSingle(all)) return `The context is fixed at ${plural(all.highest, "frame")}. ${all.longest}`;
    return `Drag the handle for a longer or shorter context. ${stops(all)}`;
  }
  return {
    ...common(control, edge, possible),
    at,
    moved: (context, frame) => ({ ...context, [context.at_start ? "stop" : "first"]: frame }),
    set: control.set,
    clear: () => control.set(initial),
    said: () => (form.isInitial(control.field.path) ? null : `${label} is ${control.get()}.`),
    undo: "Use the default",
    help,
  };
}

// The limit of a field with the number of the source's frames that are used. It counts only if a second field says so.
function usedLimit(form) {
  const [control, toggle, start] = ["max_num_frames", "limit_num_frames", "start_frame_num"].map(form.field);
  const { label, initial } = control.field;
  const edge = (context) => used(context)[context.at_start ? 1 : 0];

  function clear() {
    toggle.set(false);
    control.set(initial);
  }
  // Uses all frames of the source if the value is null.
  function set(value) {
    if (value === null) clear();
    else {
      toggle.set(true);
      control.set(value);
    }
  }
  function possible(context, facts) {
    const begin = start.get() ?? 0;
    const isCut = begin > 0 && !context.at_start;
    const cut = `${start.field.label} is ${begin}; frames before it are not used.`;
    const most = countTo(context.at_start ? facts.num_frames : begin, context, facts);
    return lengths(1, 1, [[most, isCut ? cut : noMore(facts, "no more are used")]]);
  }
  function at(frame, context, facts) {
    const all = possible(context, facts);
    const shortest = "At least 1 frame of the source is used.";
    const { count, stopped } = nearest(countTo(frame, context, facts), all, shortest);
    const isWhole = count === all.highest;
    const value = isWhole ? null : Math.ceil(exact((count * facts.fps) / context.rate));
    return { edge: frameOf(count, context, facts), value, stopped };
  }
  function moved(context, frame) {
    const name = context.at_start ? "stop" : "first";
    const inner = context.at_start ? Math.min : Math.max;
    return { ...context, [`shown_${name}`]: frame, [name]: inner(context[name], frame) };
  }
  function help(context, facts) {
    const all = possible(context, facts);
    if (isSingle(all)) return "";
    const which = context.at_start ? "right handle to leave out the frames after" : "handle to leave out the frames before";
    return `Drag the ${which} it. ${stops(all)}`;
  }
  return {
    ...common(control, edge, possible),
    at,
    moved,
    set,
    clear,
    said: () => (toggle.get() ? `${toggle.field.label} is on, and ${label} is ${control.get()}.` : null),
    undo: "Use the whole source",
    help,
  };
}

// The limit of the field with the first frame that is used. It has no handle where that of another limit does the same.
function startLimit(form) {
  const control = form.field("start_frame_num");
  const { label, initial, schema } = control.field;
  const edge = () => control.get() ?? 0;
  const lastStart = ({ num_frames: all }) => Math.floor((all - 1) / STEP) * STEP;
  const isFixed = (_, facts) => lastStart(facts) === 0;

  function at(frame, _, facts) {
    const last = lastStart(facts);
    const most = Math.min(last, schema.maximum);
    const value = Math.min(most, Math.max(0, Math.round(frame / STEP) * STEP));
    const isLonger = frame > most + STEP / 2;
    const sentence = most < last ? `${label} is at most ${most}.` : "At least the source's last frames are used.";
    return { edge: value, value, stopped: isLonger ? sentence : "" };
  }
  return {
    control,
    isOn: ({ at_start: atStart }) => atStart || !form.field("max_num_frames"),
    isFixed,
    edge,
    stride: () => STEP,
    at,
    moved: (context) => context,
    set: control.set,
    clear: () => control.set(initial),
    said: () => (form.isInitial(control.field.path) ? null : `${label} is ${control.get()}.`),
    undo: "Use the whole source",
    help: (context, facts) =>
      isFixed(context, facts)
        ? ""
        : `Drag the ${context.at_start ? "left handle" : "handle"} to leave out the frames before it, in steps of 8.`,
  };
}

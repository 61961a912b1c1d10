// The frames of a plan in words: which of the source the model sees, which are new, and which the result has.

import { plural } from "./words.js";

// Returns the rows [name, text] about the context of a plan. `all` is the number of the source's frames.
export function frameRows(context, all) {
  return [
    ["Context", seen(context, all)],
    ["New", made(context)],
    ["Result", shown(context, all)],
  ];
}

// Returns the sentence about a request's number of frames: how many of them are the source's, and how many are new. With
// `isNewOnly` the request's number is that of the new frames alone.
export function countSentence({ counted, new_frames: count, num_frames: all }, isNewOnly) {
  const own = isNewOnly ? 0 : counted;
  const text = own ? `${own + count} frames: ${own} of the source and ${count} new.` : `${plural(count, "new frame")}.`;
  return all === own + count ? text : `${text} The result has ${all}, with ${all - count} of the source.`;
}

function seen({ first, stop, counted }, all) {
  const count = stop - first;
  if (!count) return "none: the model sees no frame of the source";
  const more = counted > count ? `. Of the ${counted} that the request counts, its window has room for ${count}` : "";
  return `${span(first, stop, all)}, bright above: the model sees ${count === 1 ? "it" : "them"}${more}`;
}

function made({ first, stop, shown_first: shownFirst, shown_stop: shownStop, new_first: isFirst, new_frames: count }) {
  const text = plural(count, "frame");
  if (first === stop || shownFirst === shownStop) return text;
  return `${text} ${isFirst ? "before" : "after"} ${stop - first === 1 ? "it" : "them"}`;
}

function shown({ shown_first: first, shown_stop: stop, ...context }, all) {
  const { new_frames: count, new_first: isFirst, at_start: atStart, num_frames: total } = context;
  if (first === stop) return `${plural(total, "frame")}, all new`;
  const used = stop - first === all ? "the whole source" : span(first, stop, all);
  const parts = [used, `${count} new`];
  const text = `${plural(total, "frame")}: ${(isFirst ? parts.reverse() : parts).join(", then ")}`;
  const cut = all - (stop - first);
  const backwards = isFirst === atStart ? "" : ". The source plays backwards";
  return `${text}${cut ? `. ${plural(cut, "frame")} of the source ${cut === 1 ? "is" : "are"} left out` : ""}${backwards}`;
}

function span(first, stop, all) {
  const count = stop - first;
  if (count === all) return `${all === 1 ? "the only frame" : `all ${all} frames`} of the source`;
  const edge = stop === all ? "the last" : first === 0 ? "the first" : null;
  if (edge) return `${edge} ${count === 1 ? "frame" : count} of ${all}`;
  return count === 1 ? `frame ${stop} of ${all}` : `frames ${first + 1} to ${stop} of ${all}`;
}

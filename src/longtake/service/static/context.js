// The source's own strip of frames, with the context marked on it, and handles that change the context.

import { button, el, refill } from "./dom.js";
import { countSentence, frameRows } from "./frames.js";
import { limitsOf, used } from "./limits.js";
import { mediaAddress } from "./object_urls.js";
import { fileKey } from "./stored_files.js";

const HEIGHT = 72; // of the picture, in pixels; it is shown a little smaller
const SHOWN_HEIGHT = 56;
const [LEAST_FRAMES, MOST_FRAMES] = [3, 16];
const REASON_MS = 4000; // for which the reason why a handle stopped stays after the gesture
const KEYS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -4, PageUp: 4 };

// Builds the strip below the source's control. Returns {node, show, mark}: `show(facts, file)` shows another source
// (null: none), and `mark(context, keepsOld)` marks the context of a plan, as the server describes it (null: none), or
// leaves the one before. The number of new frames is told at the field with the number of frames, too.
export function contextStrip(form) {
  const picture = el("img", { alt: "Frames of the source, evenly spaced" });
  const zones = ["cut", "shade", "seen", "shade", "cut"].map((name) => el("div", { class: name }));
  const handles = limitsOf(form).map(handle);
  const added = el("div", { class: "added" });
  const line = el("div", { class: "strip" }, picture, zones, ...handles.map(({ knob }) => knob));
  const rows = el("dl", { class: "frames" });
  const helps = el("p", { class: "help" });
  const reason = el("p", { class: "reason", role: "status" });
  const said = el("div", { class: "said" });
  const node = el(
    "div",
    { class: "context", hidden: true },
    el("div", { class: "strip-row" }, line, added),
    rows,
    reason,
    said,
    helps,
  );
  const counted = form.field("num_frames") ?? form.field("duration");
  let facts = null;
  let context = null;
  let isNew = false;
  let isPlanned = true; // false from the move of a handle until the plan of it
  let timer = 0;

  form.node.addEventListener("submit", () => explain(""));

  // Shows the reason why a handle stopped; "": none.
  function explain(text) {
    clearTimeout(timer);
    reason.textContent = text;
  }

  function explainNoMore() {
    clearTimeout(timer);
    timer = setTimeout(explain, REASON_MS, "");
  }

  async function show(found, own) {
    facts = found;
    node.hidden = !found;
    isNew = Boolean(found);
    picture.hidden = true;
    explain("");
    line.classList.toggle("loading", Boolean(found));
    draw();
    if (!found) return;
    try {
      const fitting = Math.round((line.clientWidth * found.height) / (found.width * SHOWN_HEIGHT));
      const frames = Math.min(MOST_FRAMES, Math.max(LEAST_FRAMES, fitting));
      const strip = await mediaAddress(`media/${fileKey(own)}/strip?frames=${frames}&height=${HEIGHT}`);
      if (facts === found) {
        picture.src = strip.address;
        await picture.decode().finally(strip.release);
      } else strip.release();
      if (facts === found) picture.hidden = false;
    } catch {
      // The handles and the words say the same without the picture.
    } finally {
      if (facts === found) line.classList.remove("loading");
    }
  }

  function mark(next, keepsOld) {
    counted?.tell(next ? countSentence(next, counted.field.name === "duration") : "");
    if (keepsOld) return;
    context = next;
    isPlanned = true;
    draw();
    // Who has just chosen the source sees all of this, also on a phone, where it would be behind the line with "Run".
    if (isNew && context && node.parentElement.contains(document.activeElement)) node.scrollIntoView({ block: "nearest" });
    isNew &&= !context;
  }

  // Draws the context of the newest plan. Without one, no frame is marked and nothing can be moved.
  function draw() {
    const known = facts !== null && context !== null;
    const usable = known ? handles.filter(({ limit }) => limit.isOn(context)) : [];
    for (const one of handles) one.knob.hidden = !usable.includes(one) || one.limit.isFixed(context, facts);
    for (const one of [...zones, rows, helps, said, reason]) one.hidden = !known;
    added.textContent = known ? `+${isPlanned ? context.new_frames : "…"}` : "";
    if (!known) return;
    const all = facts.num_frames;
    const share = (frame) => `${(100 * frame) / all}%`;
    const [first, stop] = used(context);
    const ends = [0, first, context.first, context.stop, stop, all];
    zones.forEach((zone, place) => {
      zone.style.cssText = `left:${share(ends[place])};right:calc(100% - ${share(ends[place + 1])})`;
    });
    node.classList.toggle("backward", context.at_start);
    node.classList.toggle("moved", !isPlanned);
    const told = isPlanned ? context : { ...context, counted: 0 };
    rows.replaceChildren(...frameRows(told, all).flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
    helps.textContent = usable.map(({ limit }) => limit.help(context, facts)).join(" ");
    refill(said, ...usable.flatMap(({ limit }) => notes(limit)));
    for (const { knob, limit } of usable) {
      const frame = limit.edge(context);
      knob.style.left = share(frame);
      knob.setAttribute("aria-valuemax", all);
      knob.setAttribute("aria-valuenow", frame);
      knob.setAttribute("aria-valuetext", `frame ${frame} of ${all}`);
    }
  }

  // Returns the line about the fields that a handle has set, with a button that sets them back.
  function notes(limit) {
    const text = limit.said();
    if (!text) return [];
    const back = () => {
      explain("");
      limit.clear();
      limit.control.node.dispatchEvent(new Event("input", { bubbles: true }));
    };
    return [el("p", {}, text, " ", button(limit.undo, back, { class: "plain" }))];
  }

  // Returns the handle of a limit: its element and the limit. The pointer and the arrow keys move it.
  function handle(limit) {
    const label = { label: limit.control.field.label, valuemin: 0 };
    const knob = el("div", { class: "handle", role: "slider", tabindex: 0, aria: label });

    function moveTo(frame) {
      if (!facts || !context) return;
      const { value, edge, stopped } = limit.at(frame, context, facts);
      explain(stopped);
      if (edge === limit.edge(context)) return;
      limit.set(value);
      context = limit.moved(context, edge);
      isPlanned = false;
      draw();
      limit.control.node.dispatchEvent(new Event("input", { bubbles: true }));
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
    knob.addEventListener("lostpointercapture", explainNoMore);
    knob.addEventListener("keydown", (event) => {
      if (!context) return;
      const ends = { Home: 0, End: facts.num_frames };
      const steps = KEYS[event.key];
      if (!steps && !(event.key in ends)) return;
      event.preventDefault();
      moveTo(steps ? limit.edge(context) + steps * limit.stride(context, facts) : ends[event.key]);
      explainNoMore();
    });
    return { knob, limit };
  }
  return { node, show, mark };
}

// The view of a finished request: its player, its facts and figures, and what can be done next.

import { HOME, aboutPath, comparePage } from "./addresses.js";
import { callJson } from "./api.js";
import { drawChain } from "./chain.js";
import { eraseSoon } from "./deletion.js";
import { button, copyText, el, withCode } from "./dom.js";
import { download } from "./download.js";
import { stringify } from "./json.js";
import { mediaAddress } from "./object_urls.js";
import { player } from "./player.js";
import { withoutCut } from "./run.js";
import { dollars, line, plural, seconds, seedWords } from "./words.js";

// Returns {node, release} for a request that has ended well.
//
// entry: the request as `page/requests/<id>` describes it.
// made: its result.
// then: the functions {extend(path), again(input), four(input), edit(input)} for what comes next.
export function resultView(entry, made, then) {
  const { video } = made;
  const path = entry.video?.url;
  if (!path)
    return {
      node: el(
        "p",
        { class: "empty" },
        video.url?.startsWith("data:")
          ? "The client got the video inside the answer; no file is stored here."
          : "The file is no longer here.",
      ),
      release: () => {},
    };
  const about = aboutPath(entry.endpoint, entry.id);
  const leaving = new AbortController();
  const { node: film, setJoint, release: releaseFilm } = player(path, { source: entry.source, video });
  const release = () => {
    leaving.abort();
    releaseFilm();
  };
  callJson(`${about}/joint?figures=0`)
    .then(setJoint)
    .catch(() => {}); // the plan of an older request is no longer there
  // An endpoint without a field for the seed answers none.
  const seed = made.seed ?? null;
  const input = withoutCut(entry.input ?? {});
  const unseeded = seed === null ? input : { ...input, seed: undefined };
  const node = el(
    "div",
    { class: "result" },
    film,
    entry.stand_in
      ? el(
          "p",
          { class: "badges" },
          el("span", { class: "badge warn", title: entry.stand_in }, `Made by ${entry.model}, which stands in`),
        )
      : null,
    el(
      "p",
      { class: "facts" },
      line([
        `${video.width} × ${video.height}`,
        `${plural(video.num_frames, "frame")} at ${Math.round(video.fps * 1000) / 1000} per second`,
        seconds(video.duration),
        seedWords(seed),
        entry.started_at ? `took ${seconds(entry.completed_at - entry.started_at)}` : null,
        `${dollars(entry.price_usd)} on fal`,
        !entry.stand_in && entry.model, // the badge of a stand-in names it
      ]),
    ),
    made.prompt && made.prompt !== input.prompt ? el("p", { class: "quiet" }, "Expanded prompt: ", made.prompt) : null,
    el(
      "div",
      { class: "actions" },
      button("Extend again", () => then.extend(path), { class: "main" }),
      button("Download", () => download(path, video.file_name || "longtake.mp4")),
      button(seed === null ? "Another take" : "Another seed", () => then.again(unseeded)),
      button(seed === null ? "Four takes" : "Four seeds", () => then.four(input)),
      button("Edit and run", () => then.edit(seed === null ? input : { ...input, seed })),
      el("a", { class: "button", href: comparePage(entry.id) }, "Compare"),
      entry.shared && button("Copy a share link", () => copyText(HOME + entry.shared), { class: "plain" }),
      button("Delete", () => remove(entry, node), { class: "plain delete" }),
    ),
    inspection(about, leaving.signal),
    notesOf(entry.notes ?? []),
    folded("Log", el("ol", { class: "log" }, entry.logs.map(({ message }) => el("li", {}, message)))),
    folded("Answer as JSON", el("pre", { tabindex: 0, aria: { label: "Answer as JSON" } }, stringify(made, 2))),
    chainOf(entry.id, leaving.signal),
  );
  return { node, release };
}

const folded = (title, ...nodes) => el("details", {}, el("summary", {}, title), nodes);

// The notes of the log, folded, because they are long and mostly known.
const notesOf = (notes) =>
  notes.length > 0 &&
  folded(
    plural(notes.length, "note"),
    notes.map((note) => el("p", { class: "note" }, withCode(note))),
  );

// The chain that a result belongs to. It is shown as soon as the result extends another one, or is extended itself.
function chainOf(id, signal) {
  const tree = el("div", {});
  const section = el("section", { hidden: true }, el("h3", {}, "Chain"), tree);
  drawChain(tree, id, signal, (count) => (section.hidden = count < 2));
  return section;
}

// The figures and the sheet of the joint. They are made when the section is opened for the first time, or again after an
// error. The end of `signal` frees a sheet that was not shown.
function inspection(about, signal) {
  const box = el("div", { class: "inspection" });
  let isAsked = false; // whether they are there or on their way
  const details = el("details", {}, el("summary", {}, "Inspect the joint"), box);
  details.addEventListener("toggle", async () => {
    if (!details.open || isAsked) return;
    isAsked = true;
    box.replaceChildren(el("p", { class: "quiet", role: "status" }, "Measuring"));
    try {
      const [{ rows }, sheet] = await Promise.all([
        callJson(`${about}/joint`, { signal }),
        mediaAddress(`${about}/joint.png`, { signal }),
      ]);
      box.replaceChildren(
        el(
          "dl",
          {},
          rows.map(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]),
        ),
        el("img", {
          src: sheet.address,
          alt: "The frames around the joint, and the sound's spectrogram",
          onload: sheet.release,
          onerror: sheet.release,
        }),
      );
    } catch (error) {
      isAsked = false;
      box.replaceChildren(el("p", { class: "error" }, error.message));
    }
  });
  return details;
}

// Deletes a result. Until that has happened, `node` can be shown again.
function remove(entry, node) {
  const { node: notice, undo } = eraseSoon([entry], "p", (kept) => {
    const hadFocus = notice.contains(document.activeElement);
    if (!kept.length) {
      notice.textContent = "Deleted.";
      notice.tabIndex = -1;
      if (hadFocus) notice.focus();
    } else {
      notice.replaceWith(node);
      if (hadFocus) node.querySelector(".delete").focus();
    }
  });
  node.replaceWith(notice);
  undo.focus();
}

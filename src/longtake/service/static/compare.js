// Two results that play together, and a table of what differs between their requests. As long as one is missing, the
// newest results are offered.

import { comparePage, entryPath, extendPage, requestPage } from "./addresses.js";
import { callJson } from "./api.js";
import { by, el } from "./dom.js";
import { stringify } from "./json.js";
import { pair } from "./pair.js";
import { failToBegin } from "./shell.js";
import { picture } from "./thumbnail.js";
import { STATES, dollars, line, plural, seconds, when } from "./words.js";

async function start() {
  const query = new URLSearchParams(location.search);
  const ids = [query.get("a"), query.get("b")].filter(Boolean);
  const entries = await Promise.all(ids.map(described));
  if (entries.length < 2 || !entries.every(({ video }) => video)) {
    by("pair").append(...entries.map(single));
    await offer(entries.find(({ video }) => video) ?? null);
    return;
  }
  by("pair").append(pair(entries, entries.map(caption)));
  by("differences").append(table(entries));
}

// Returns the entry of a request; one with no more than an error and the id if the request is unknown.
async function described(id) {
  return callJson(entryPath(id)).catch((error) => ({
    id,
    video: null,
    missing: error.status === 404 ? `There is no request ${id}.` : error.message,
  }));
}

// Returns why a request has no video to compare.
function missing(entry) {
  if (entry.missing) return entry.missing;
  if (entry.state !== "done") return `${STATES[entry.state]}: it has no video.`;
  return entry.erased_at ? "Its video was deleted." : "Its video is not stored here.";
}

// Returns one result whose other one is not chosen yet, or why it cannot be compared.
function single(entry) {
  if (!entry.video) return el("p", { class: "empty" }, missing(entry));
  return el("figure", {}, picture(entry.video.url), caption(entry));
}

function caption(entry) {
  const seed = seedOf(entry);
  const facts = line([seed && `seed ${seed}`, when(entry.completed_at)]);
  const link = el("a", { href: requestPage(entry) }, entry.prompt || entry.endpoint);
  const source = extendPage(entry.endpoint, entry.video.url);
  const extend = el("a", { href: source }, "Extend");
  return el("figcaption", {}, link, el("span", { class: "quiet" }, ` ${facts} · `), extend);
}

// Returns the seed of a result as text; an empty one if neither the result nor the input has any.
const seedOf = ({ seed, input }) => String(seed ?? input?.seed ?? "");

// Offers the newest results to compare with `first`, or as the first of the two if it is null.
async function offer(first) {
  const { requests } = await callJson("page/requests?state=done");
  const others = requests.filter(({ id, video }) => video && id !== first?.id);
  const choice = (entry) => {
    const { id, video, prompt, endpoint, completed_at: at } = entry;
    const seed = seedOf(entry);
    return el(
      "li",
      {},
      el(
        "a",
        { href: first ? comparePage(first.id, id) : comparePage(id) },
        picture(video.url),
        el("span", {}, prompt || endpoint),
        el("span", { class: "quiet" }, seed && `seed ${seed}`),
        el("span", { class: "quiet" }, when(at)),
      ),
    );
  };
  by("choose-title").textContent = first ? "Compare it with which result?" : "Which result first?";
  by("choices").replaceChildren(...others.map(choice));
  by("no-choice").hidden = others.length > 0;
  by("choose").hidden = false;
}

// Returns a table of the facts of two requests, and of those fields of their inputs that differ. A field that one endpoint
// lacks has no default there, so that of two endpoints no default is named.
function table(entries) {
  const isSame = entries[0].endpoint === entries[1].endpoint;
  const facts = [
    ...(isSame ? [] : [["Endpoint", ({ endpoint }) => endpoint]]),
    ["Model", ({ model }) => model ?? ""],
    ["Seed", seedOf],
    ["Size", ({ video }) => `${video.width} × ${video.height}`],
    ["Length", ({ video }) => `${plural(video.num_frames, "frame")}, ${seconds(video.duration)}`],
    ["Took", (one) => seconds(one.completed_at - one.started_at)],
    ["Price on fal", (one) => dollars(one.price_usd)],
  ];
  const flat = (value, prefix = "") =>
    Object.entries(value ?? {}).flatMap(([name, one]) =>
      one && typeof one === "object" && !Array.isArray(one)
        ? flat(one, `${prefix}${name}.`)
        : [[prefix + name, stringify(one)]],
    );
  const inputs = entries.map(({ input }) => new Map(flat(input)));
  const names = [...new Set(inputs.flatMap((one) => [...one.keys()]))].filter(
    (name) => name !== "seed" && inputs[0].get(name) !== inputs[1].get(name), // the seed has its row already
  );
  const rows = [
    ...facts.map(([name, text]) => [name, ...entries.map(text)]),
    ...names.map((name) => [name, ...inputs.map((one) => one.get(name) ?? (isSame ? "default" : "not set"))]),
  ];
  const head = [el("span", { class: "unseen" }, "What"), "First", "Second"].map((name) => el("th", { scope: "col" }, name));
  const row = ([name, ...cells]) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, name),
      cells.map((text) => el("td", {}, text)),
    );
  return el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows.map(row)));
}

start().catch(failToBegin);

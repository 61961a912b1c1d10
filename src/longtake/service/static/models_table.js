// The models of the machine that answers: what of them is on its disk, and their downloads.

import { call } from "./api.js";
import { by, button, el, refill } from "./dom.js";
import { place } from "./list.js";
import { section } from "./section.js";
import { bytes, line, roughly } from "./words.js";

const PULL_MS = 1000;
const rows = new Map(); // name of a model -> its row and the cells in it
const pulls = new Map(); // name of a model that is being downloaded -> {since, from}
const load = section("models-panel", "page/models", draw);
let timer = 0;
let isPulling = false;

// Shows the models, and again each second while one is being downloaded.
export async function showModels() {
  await load();
  clearTimeout(timer);
  if (isPulling) timer = setTimeout(showModels, PULL_MS);
}

function draw({ models, free_bytes: free }) {
  isPulling = models.some(({ pull }) => pull?.running);
  by("free").textContent = free === null ? "" : `${bytes(free)} of their disk are free.`;
  place(
    by("models"),
    models.map((model) => modelRow(model, free)),
  );
}

// Returns the row of a model. The row and its button stay the same while they can, so that they keep the focus.
function modelRow(model, free) {
  const { name, title, licence } = model;
  if (!rows.has(name)) {
    const cells = { state: el("td"), size: el("td"), tool: el("td"), action: null };
    const about = el("p", { class: "quiet" }, line([title, licence]));
    const node = el("tr", {}, el("th", { scope: "row" }, name, about), cells.state, cells.size, cells.tool);
    rows.set(name, { node, ...cells });
  }
  const row = rows.get(name);
  row.state.replaceChildren(...stateOf(model, free));
  row.size.textContent = model.bytes ? bytes(model.bytes) : "";
  const action = actionOf(model, free);
  if (action?.text !== row.action?.text) {
    row.action = action;
    refill(row.tool, ...(action ? [actionButton(name, action)] : []));
  }
  return row.node;
}

function actionOf({ embedded, installed, missing_bytes: absent, pull }, free) {
  if (pull?.running) return { text: "Stop", method: "DELETE" };
  if (embedded || (installed && !absent) || (free !== null && absent > free)) return null;
  return { text: installed ? "Download the rest" : "Download", method: "POST" };
}

function actionButton(name, { text, method }) {
  const act = async () => {
    try {
      await call(`page/models/${encodeURIComponent(name)}/pull`, { method });
    } finally {
      await showModels();
    }
  };
  return button(text, act, { aria: { label: `${text}: ${name}` } });
}

// Returns the speed of a download and the time that it still takes, since this page first saw it; empty before that is
// known.
function pace(name, { bytes: arrived, all_bytes: all }) {
  const now = performance.now() / 1000;
  if (!all || !pulls.has(name)) pulls.set(name, { since: now, from: arrived });
  const { since, from } = pulls.get(name);
  const speed = (arrived - from) / Math.max(now - since, 0.001);
  if (now - since < 3 || speed <= 0) return "";
  return `${bytes(speed)} per second, about ${roughly((all - arrived) / speed)} left`;
}

// Returns the nodes that tell what is here of a model, and what a download needs.
function stateOf({ name, embedded, installed, missing, missing_bytes: absent, pull }, free) {
  if (pull?.running) {
    const share = pull.share === null ? {} : { value: pull.share };
    const arrived = pull.all_bytes ? `${bytes(pull.bytes)} of ${bytes(pull.all_bytes)}` : "";
    const text = line([arrived, pace(name, pull), pull.message]);
    return [
      el("progress", { max: 1, ...share, aria: { label: `Download of ${name}` } }),
      el("p", { class: "quiet" }, text),
    ];
  }
  const here = embedded ? "in the package" : installed ? "installed" : "not installed";
  const parts = missing?.length ? `: ${missing.join(", ")} missing` : "";
  pulls.delete(name);
  const nodes = [el("p", {}, here + parts)];
  if (absent && !embedded) {
    const fits = free === null || absent <= free;
    const text = `A download has about ${bytes(absent)}${fits ? "" : ", more than is free"}.`;
    nodes.push(el("p", { class: fits ? "quiet" : "error" }, text));
  }
  if (pull?.error) nodes.push(el("p", { class: "error" }, pull.error));
  return nodes;
}

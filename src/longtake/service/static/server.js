// The server's own page: slots and queue, the models of this machine, and the keys. Only admins see more than the queue.

import { Refused, call, callJson } from "./api.js";
import { by, copyText, el, toast } from "./dom.js";
import { place } from "./list.js";
import { abandon, adopt, onRequests } from "./shell.js";
import { bytes, plural, roughly, when } from "./words.js";

const PULL_MS = 1000;
const rows = new Map();
const pulls = new Map(); // name of a model that is being downloaded -> {since, from}
let timer = 0;
let asked = 0;
let isPulling = false;

onRequests(({ slots, running, waiting, admin }) => {
  by("about-slots").hidden = !admin;
  by("needs-admin").hidden = admin;
  by("slots").replaceChildren(
    el(
      "dl",
      {},
      admin && slots.map(({ name, pool, state }) => [el("dt", {}, name), el("dd", {}, `${state} (pool ${pool})`)]),
      el("dt", {}, "queue"),
      el("dd", {}, `${running} running, ${waiting} waiting`),
    ),
  );
});

// Loads the models, and again each second while one is being downloaded.
async function models() {
  const number = ++asked;
  try {
    const list = await callJson("page/models");
    if (number !== asked) return;
    isPulling = list.models.some(({ pull }) => pull?.running);
    by("models-panel").hidden = false;
    by("free").textContent = list.free_bytes === null ? "" : `${bytes(list.free_bytes)} of their disk are free.`;
    place(
      by("models"),
      list.models.map((model) => modelRow(model, list.free_bytes)),
    );
  } finally {
    if (number === asked) {
      clearTimeout(timer);
      if (isPulling) timer = setTimeout(() => guarded(models), PULL_MS);
    }
  }
}

// Returns the row of a model. The row and its button stay the same while they can, so that they keep the focus.
function modelRow(model, free) {
  const { name, title, licence } = model;
  if (!rows.has(name)) {
    const cells = { state: el("td"), size: el("td"), tool: el("td"), action: null };
    const about = el("p", { class: "quiet" }, [title, licence].filter(Boolean).join(" · "));
    const node = el("tr", {}, el("th", { scope: "row" }, name, about), cells.state, cells.size, cells.tool);
    rows.set(name, { node, ...cells });
  }
  const row = rows.get(name);
  row.state.replaceChildren(...stateOf(model, free));
  row.size.textContent = model.bytes ? bytes(model.bytes) : "";
  const action = actionOf(model, free);
  if (action?.text !== row.action?.text) {
    const focused = row.tool.contains(document.activeElement);
    row.action = action;
    row.tool.replaceChildren(...(action ? [actionButton(name, action)] : []));
    if (focused) row.tool.firstChild?.focus();
  }
  return row.node;
}

function actionOf({ embedded, installed, missing_bytes: absent, pull }, free) {
  if (pull?.running) return { text: "Stop", method: "DELETE" };
  if (embedded || (installed && !absent) || (free !== null && absent > free)) return null;
  return { text: installed ? "Download the rest" : "Download", method: "POST" };
}

function actionButton(name, { text, method }) {
  const button = el("button", { type: "button", onclick: act, aria: { label: `${text}: ${name}` } }, text);
  async function act() {
    button.disabled = true;
    try {
      await call(`page/models/${name}/pull`, { method });
    } catch (error) {
      toast(error.message, { failed: true });
    }
    button.disabled = false;
    guarded(models);
  }
  return button;
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
    const text = [arrived, pace(name, pull), pull.message].filter(Boolean).join(" · ");
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

async function keys() {
  const list = await callJson("page/keys");
  const isFirst = list.keys.length === 0;
  by("keys-panel").hidden = false;
  by("keys-none").hidden = !isFirst;
  // A first key that may not manage keys would lock everybody out of this page.
  const { scope } = by("new-key").elements;
  if (isFirst) scope.value = "admin";
  scope.disabled = isFirst;
  by("keys-table").hidden = isFirst;
  const admins = list.keys.filter((one) => one.scope === "admin" && !one.revoked_at);
  by("keys").replaceChildren(...list.keys.map((one) => keyRow(one, admins)));
}

function keyRow({ id, alias, scope, max_in_flight: most, own, created_at: at, revoked_at: gone }, admins) {
  const revoke = async () => {
    const warnings = [`Revoke the key ${alias}? Programs that use it stop working.`];
    if (own) warnings.push("This page uses it, and then needs another one.");
    if (admins.length === 1 && admins[0].id === id)
      warnings.push("No other key may manage this server: only a command on its machine can make one.");
    if (!confirm(warnings.join(" "))) return;
    try {
      await call(`page/keys/${id}`, { method: "DELETE" });
      if (own) abandon();
    } catch (error) {
      toast(error.message, { failed: true });
    }
    guarded(keys);
  };
  const button = el("button", { type: "button", onclick: revoke, aria: { label: `Revoke ${alias}` } }, "Revoke");
  return el(
    "tr",
    {},
    el(
      "th",
      { scope: "row" },
      alias,
      own && el("span", { class: "badge" }, "used by this page"),
      el("p", { class: "id quiet" }, id),
    ),
    el("td", {}, scope === "admin" ? "manage everything" : "run requests"),
    el("td", {}, most === null ? "any number" : plural(most, "request")),
    el("td", {}, when(at)),
    el("td", {}, gone ? `revoked ${when(gone)}` : button),
  );
}

// Says at the field why a number is refused. The browser's own bubble is easily missed.
const mostField = by("new-key").elements.max_in_flight;
mostField.addEventListener("invalid", (event) => {
  event.preventDefault();
  by("most-problem").textContent = "“Most at once” must be a whole number from 1 on. Leave it empty for any number.";
  mostField.setAttribute("aria-invalid", "true");
  mostField.focus();
});
mostField.addEventListener("input", () => {
  by("most-problem").textContent = "";
  mostField.removeAttribute("aria-invalid");
});

by("new-key").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { alias, scope, max_in_flight: most } = event.target.elements;
  const isFirst = scope.disabled;
  try {
    const made = await callJson("page/keys", {
      json: {
        alias: alias.value,
        scope: scope.value,
        ...(most.value ? { max_in_flight: Number(most.value) } : {}),
      },
    });
    // From now on the server answers only with a key, so this page must use the first one itself.
    if (isFirst) adopt(made.key);
    const text = isFirst ? "This page uses it from now on. Keep a copy:" : "Keep a copy:";
    by("made").replaceChildren(
      el("h3", { tabindex: -1 }, `The new key ${made.alias ?? alias.value}`),
      el("p", {}, `${text} it is shown only now.`),
      el(
        "div",
        { class: "actions" },
        el("code", {}, made.key),
        el("button", { type: "button", onclick: () => copyText(made.key) }, "Copy"),
      ),
    );
    by("made").hidden = false;
    by("made").querySelector("h3").focus();
    by("made").scrollIntoView({ block: "nearest" });
    event.target.reset();
    guarded(keys);
  } catch (error) {
    toast(error.message, { failed: true });
  }
});

// Runs a section's loading. A section that this key may not see stays hidden, and the page's head tells of an outage.
async function guarded(load) {
  try {
    await load();
  } catch (error) {
    const isExpected = error instanceof TypeError || (error instanceof Refused && [403, 404].includes(error.status));
    if (!isExpected) toast(error.message, { failed: true });
  }
}
guarded(models);
guarded(keys);

// The server's own page: slots and queue, the models of this machine, and the keys. Models and keys are for admins.

import { Refused, call, callJson } from "./api.js";
import { by, copyText, el, toast } from "./dom.js";
import { onRequests } from "./shell.js";
import { bytes, when } from "./words.js";

const PULL_MS = 1000;

onRequests(({ slots, running, waiting }) => {
  by("slots").replaceChildren(
    el(
      "dl",
      {},
      slots.map(({ name, pool, state }) => [el("dt", {}, name), el("dd", {}, `${state} (pool ${pool})`)]),
      el("dt", {}, "queue"),
      el("dd", {}, `${running} running, ${waiting} waiting`),
    ),
  );
});

async function models() {
  const list = await callJson("page/models");
  by("models-panel").hidden = false;
  by("models").replaceChildren(
    el(
      "table",
      {},
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          ["Model", "State", "Size", ""].map((name) => el("th", { scope: "col" }, name)),
        ),
      ),
      el("tbody", {}, list.models.map(modelRow)),
    ),
  );
  if (list.models.some(({ pull }) => pull?.running)) setTimeout(() => guarded(models), PULL_MS);
}

function modelRow({ name, title, installed, bytes: size, missing, pull }) {
  const act = (method) => async (event) => {
    event.target.disabled = true;
    try {
      await call(`page/models/${name}/pull`, { method });
    } catch (error) {
      toast(error.message, { failed: true });
    }
    guarded(models);
  };
  const state = pull?.running
    ? [
        el("progress", {
          max: 1,
          ...(pull.share === null ? {} : { value: pull.share }),
          aria: { label: `Download of ${name}` },
        }),
        el("span", { class: "quiet" }, pull.message ?? ""),
      ]
    : pull?.error
      ? el("span", { class: "error" }, pull.error)
      : installed
        ? "installed"
        : `not installed${missing?.length ? `: ${missing.join(", ")}` : ""}`;
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, name, el("p", { class: "quiet" }, title)),
    el("td", {}, state),
    el("td", {}, size ? bytes(size) : ""),
    el(
      "td",
      {},
      pull?.running
        ? el("button", { type: "button", onclick: act("DELETE") }, "Stop")
        : installed
          ? null
          : el("button", { type: "button", onclick: act("POST") }, "Download"),
    ),
  );
}

async function keys() {
  const list = await callJson("page/keys");
  by("keys-panel").hidden = false;
  by("keys-none").hidden = list.keys.length > 0;
  if (!list.keys.length) by("new-key").elements.scope.value = "admin"; // a first key that may not manage keys would lock them up
  const revoke = (id, alias) => async () => {
    if (!confirm(`Revoke the key ${alias}? Programs that use it stop working.`)) return;
    await call(`page/keys/${id}`, { method: "DELETE" }).catch((error) => toast(error.message, { failed: true }));
    guarded(keys);
  };
  by("keys").replaceChildren(
    list.keys.length
      ? el(
          "table",
          {},
          el(
            "thead",
            {},
            el(
              "tr",
              {},
              ["Key", "May", "Created", ""].map((name) => el("th", { scope: "col" }, name)),
            ),
          ),
          el(
            "tbody",
            {},
            list.keys.map(({ id, alias, scope, created_at: at, revoked_at: gone }) =>
              el(
                "tr",
                {},
                el("th", { scope: "row" }, alias, el("p", { class: "id quiet" }, id)),
                el("td", {}, scope),
                el("td", {}, when(at)),
                el(
                  "td",
                  {},
                  gone
                    ? `revoked ${when(gone)}`
                    : el("button", { type: "button", onclick: revoke(id, alias) }, "Revoke"),
                ),
              ),
            ),
          ),
        )
      : "",
  );
}

by("new-key").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { alias, scope, max_in_flight: most } = Object.fromEntries(new FormData(event.target));
  try {
    const made = await callJson("page/keys", {
      json: { alias, scope, ...(most ? { max_in_flight: Number(most) } : {}) },
    });
    by("made").replaceChildren(
      "The new key, shown only now: ",
      el("code", {}, made.key),
      " ",
      el("button", { type: "button", class: "plain", onclick: () => copyText(made.key) }, "Copy"),
    );
    event.target.reset();
    guarded(keys);
  } catch (error) {
    toast(error.message, { failed: true });
  }
});

// Runs a section's loading. A section that this key may not see stays hidden.
async function guarded(load) {
  try {
    await load();
  } catch (error) {
    if (!(error instanceof Refused && [403, 404].includes(error.status))) toast(error.message, { failed: true });
  }
}
guarded(models);
guarded(keys);

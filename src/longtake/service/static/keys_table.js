// The keys of the server: who may use it, new keys, and the end of old ones.

import { call, callJson } from "./api.js";
import { button, by, copyText, el, press, refill } from "./dom.js";
import { section } from "./section.js";
import { abandon, adopt } from "./shell.js";
import { plural, when } from "./words.js";

// Shows the keys.
export const showKeys = section("keys-panel", "page/keys", draw);

function draw({ keys }) {
  const isFirst = keys.length === 0;
  by("keys-none").hidden = !isFirst;
  // A first key that may not manage keys would lock everybody out of this page.
  const { scope } = by("new-key").elements;
  if (isFirst) scope.value = "admin";
  scope.disabled = isFirst;
  by("keys-table").hidden = isFirst;
  const admins = keys.filter((one) => one.scope === "admin" && !one.revoked_at);
  refill(by("keys"), ...keys.map((one) => keyRow(one, admins)));
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
    } finally {
      await showKeys();
    }
  };
  const end = button("Revoke", revoke, { aria: { label: `Revoke ${alias}` } });
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
    el("td", {}, gone ? `revoked ${when(gone)}` : end),
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

async function create() {
  const form = by("new-key");
  const { alias, scope, max_in_flight: most } = form.elements;
  const isFirst = scope.disabled;
  const name = alias.value;
  const limit = most.value ? { max_in_flight: Number(most.value) } : {};
  const made = await callJson("page/keys", { json: { alias: name, scope: scope.value, ...limit } });
  // From now on the server answers only with a key, so this page must use the first one itself.
  if (isFirst) adopt(made.key);
  const text = isFirst ? "This page uses it from now on. Keep a copy:" : "Keep a copy:";
  by("made").replaceChildren(
    el("h3", { tabindex: -1 }, `The new key ${made.alias ?? name}`),
    el("p", {}, `${text} it is shown only now.`),
    el("div", { class: "actions" }, el("code", {}, made.key), button("Copy", () => copyText(made.key))),
  );
  by("made").hidden = false;
  by("made").querySelector("h3").focus();
  by("made").scrollIntoView({ block: "nearest" });
  if (alias.value === name) form.reset(); // otherwise the next key is being written already
  await showKeys();
}

by("new-key").addEventListener("submit", (event) => {
  event.preventDefault();
  press(event.submitter ?? event.target.querySelector("button"), create);
});

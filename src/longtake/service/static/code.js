// The panel with the code of the current request.

import { FORMS } from "./code_forms.js";
import { button, copyText, el } from "./dom.js";
import { ofAllTabs } from "./storage.js";
import { tabList } from "./tabs.js";

// Builds the panel with the code. Returns {node, show}: `show(request, plan)` writes the code of another request. `plan`
// is the server's plan of it, or null if there is none (yet).
export function codePanel(endpoint) {
  const text = el("code");
  const pre = el("pre", { tabindex: 0 }, text);
  let shown = {};
  let planned = null;
  let chosen = null;
  const tabs = tabList("Form of the code", Object.keys(FORMS), [pre], (name) => {
    chosen = name;
    ofAllTabs.set("longtake.code", name);
    write();
  });
  const write = () => (text.textContent = FORMS[chosen](endpoint, shown, planned));
  const copy = button("Copy", () => copyText(text.textContent), { class: "plain copy" });
  const node = el(
    "section",
    { class: "code-panel" },
    el("div", { class: "code-tabs" }, tabs.node, copy),
    pre,
    el("p", { class: "quiet" }, "A server without keys accepts any FAL_KEY of the form id:secret."),
  );
  tabs.choose(ofAllTabs.get("longtake.code"));
  return {
    node,
    show: (request, plan = null) => {
      shown = request;
      planned = plan;
      write();
    },
  };
}

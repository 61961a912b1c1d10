// A list of tabs. The arrow keys lead from one to the next.

import { el, newId } from "./dom.js";

// Returns {node, choose} for tabs with these names. `choose(name)` makes one the chosen one and calls `onChoose(name)`, as
// a click on it does. `panels` are the elements that the tabs show, one for each, or one for all.
export function tabList(label, names, panels, onChoose) {
  const panelOf = (place) => panels[Math.min(place, panels.length - 1)];
  for (const panel of panels) {
    panel.id ||= newId("panel");
    panel.setAttribute("role", "tabpanel");
  }
  const tabs = names.map((name, place) =>
    el(
      "button",
      {
        type: "button",
        role: "tab",
        id: newId("tab"),
        class: "plain",
        aria: { selected: "false", controls: panelOf(place).id },
        onclick: () => choose(name),
      },
      name,
    ),
  );
  const node = el("div", { class: "code-tabs", role: "tablist", aria: { label } }, tabs);
  let chosen = null;

  function choose(name) {
    chosen = names.includes(name) ? name : names[0];
    tabs.forEach((tab, place) => {
      const isChosen = names[place] === chosen;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
      if (panels.length > 1) panels[place].hidden = !isChosen;
      if (isChosen) panelOf(place).setAttribute("aria-labelledby", tab.id);
    });
    onChoose(chosen);
  }
  node.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    const place = (names.indexOf(chosen) + move + names.length) % names.length;
    choose(names[place]);
    tabs[place].focus();
  });
  return { node, choose };
}

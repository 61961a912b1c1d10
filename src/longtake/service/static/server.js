// The server's own page: slots and queue, the models of this machine, and the keys. Only admins see more than the queue.

import { by, el } from "./dom.js";
import { showKeys } from "./keys_table.js";
import { showModels } from "./models_table.js";
import { onRequests } from "./shell.js";

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

function show() {
  if (document.hidden) return;
  showModels();
  showKeys();
}
document.addEventListener("visibilitychange", show);
show();

// The API page of one endpoint: code, addresses, and all fields, from the endpoint's own schema.

import { HOME } from "./addresses.js";
import { codePanel } from "./code.js";
import { by, el } from "./dom.js";
import { loadEndpoint } from "./schema.js";
import { failToBegin } from "./shell.js";

const id = by("code").dataset.endpoint;

async function start() {
  const endpoint = await loadEndpoint(id);
  const panel = codePanel(endpoint);
  by("code").append(panel.node);
  panel.show(example(endpoint.fields));
  const calls = [
    ["Run and wait", "POST", `run/${id}`],
    ["Submit", "POST", `queue/${id}`],
    ["Status", "GET", `queue/${id}/requests/{request_id}/status?logs=1`],
    ["Status as a stream", "GET", `queue/${id}/requests/{request_id}/status/stream`],
    ["Result", "GET", `queue/${id}/requests/{request_id}`],
    ["Cancel", "PUT", `queue/${id}/requests/{request_id}/cancel`],
    ["Upload", "POST", "rest/storage/upload/initiate"],
    ["Plan and price", "POST", `models/${id}/plan`],
  ];
  by("calls").append(
    ...calls.flatMap(([name, method, path]) => [
      el("dt", {}, name),
      el("dd", {}, el("code", {}, `${method} ${HOME}${path}`)),
    ]),
  );
  by("input").append(
    el(
      "table",
      {},
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          ["Field", "Type", "Default", "Meaning"].map((name) => el("th", { scope: "col" }, name)),
        ),
      ),
      el("tbody", {}, endpoint.fields.map(row)),
    ),
  );
  const { openapi } = endpoint;
  const answer = openapi.paths[`/${id}/requests/{request_id}`].get.responses["200"].content[
    "application/json"
  ].schema.$ref
    .split("/")
    .at(-1);
  const { properties } = openapi.components.schemas[answer];
  by("example").textContent = JSON.stringify(
    Object.fromEntries(Object.entries(properties).map(([name, schema]) => [name, schema.examples?.[0] ?? schema.type])),
    null,
    2,
  );
}

function row({ path, required, schema, initial, help }) {
  const range = schema.minimum === undefined ? "" : `, ${schema.minimum} to ${schema.maximum}`;
  const type =
    (schema.enum ?? schema.choices)
      ? (schema.enum ?? [...schema.choices, "{width, height}"]).join(" | ")
      : `${schema.type ?? "any"}${range}`;
  return el(
    "tr",
    {},
    el(
      "th",
      { scope: "row" },
      el("code", {}, path.join(".")),
      required ? el("span", { class: "needed", title: "needed" }, " *") : null,
    ),
    el("td", {}, type),
    el("td", {}, initial === undefined ? "" : el("code", {}, JSON.stringify(initial))),
    el("td", {}, help),
  );
}

// Returns a small request: the fields that are needed, and an example for each.
function example(fields) {
  const request = {};
  for (const { path, kind, required, example: value } of fields.filter(
    (field) => field.required || (field.kind === "prompt" && field.name === "prompt"),
  )) {
    const put =
      kind === "video"
        ? "https://example.com/clip.mp4"
        : kind === "loras"
          ? [{ path: "owner/repository" }]
          : (value ?? (required ? "" : undefined));
    if (put !== undefined) path.slice(0, -1).reduce((part, name) => (part[name] ??= {}), request)[path.at(-1)] = put;
  }
  return request;
}

start().catch(failToBegin);

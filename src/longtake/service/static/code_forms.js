// The code of a request in five forms: fal's clients for Python and JavaScript, cURL, the command line, and the library.
// Each works when it is pasted.

import { HOME } from "./addresses.js";
import { stringify } from "./json.js";

const SERVER = HOME.replace(/\/$/, "");

const COMPLETED = ["num_frames", "frame_rate", "duration", "match_input_fps"];

// Returns the request with the fields whose defaults differ between the API and the command line.
function complete(fields, request) {
  const whole = structuredClone(request);
  for (const { path, name, initial } of fields) {
    if (COMPLETED.includes(name) && path.length === 1 && initial !== undefined) whole[name] ??= initial;
  }
  return whole;
}

// Returns the number of new frames, which the command line and the library must be told where the endpoint has no field
// for it, or null. It comes from the request's plan, which may be missing.
function newFrames(fields, plan) {
  const counted = fields.some(({ name, path }) => ["num_frames", "duration"].includes(name) && path.length === 1);
  return counted ? null : (plan?.context.new_frames ?? null);
}

// Returns the name of the file to write. Its suffix is that of the type of output in the request: "GIF (.gif)".
function outputName(request) {
  const suffix = /\((\.\w+)\)/.exec(request.video_output_type ?? "")?.[1];
  return `longer${suffix ?? ".mp4"}`;
}

function pythonText(value, indent = "") {
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null) return "None";
  if (typeof value !== "object") return stringify(value);
  const inner = `${indent}    `;
  const parts = Array.isArray(value)
    ? value.map((one) => pythonText(one, inner))
    : Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${pythonText(one, inner)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return parts.length
    ? `${open}\n${parts.map((part) => `${inner}${part},\n`).join("")}${indent}${close}`
    : open + close;
}

function python({ id }, request) {
  return `# pip install fal-client; export FAL_KEY=id:secret
import fal_client
import fal_client.client

SERVER = "${SERVER}"
fal_client.client.RUN_URL_FORMAT = f"{SERVER}/run/"
fal_client.client.QUEUE_URL_FORMAT = f"{SERVER}/queue/"
fal_client.client.REST_URL = f"{SERVER}/rest"
fal_client.client.CDN_URL = f"{SERVER}/cdn"

lines = []


def show(update):
    # Each update has the whole log. Only its new lines are printed.
    log = getattr(update, "logs", None) or []
    for line in log[len(lines):]:
        lines.append(line)
        print(line["message"])


result = fal_client.subscribe(
    "${id}",
    arguments=${pythonText(request, "    ")},
    with_logs=True,
    on_queue_update=show,
)
print(result["video"]["url"])
`;
}

function javascript({ id }, request) {
  const input = stringify(request, 2).replaceAll("\n", "\n  ");
  return `// npm install @fal-ai/client; export FAL_KEY=id:secret
import { fal } from "@fal-ai/client";

const services = { "fal.run": "run", "queue.fal.run": "queue", "rest.fal.ai": "rest" };
fal.config({
  credentials: process.env.FAL_KEY,
  fetch: (address, init) => {
    const url = new URL(address);
    const service = services[url.hostname];
    return fetch(service ? \`${SERVER}/\${service}\${url.pathname}\${url.search}\` : address, init);
  },
});

const lines = [];
const { data } = await fal.subscribe("${id}", {
  input: ${input},
  logs: true,
  // Each update has the whole log. Only its new lines are printed.
  onQueueUpdate: ({ logs }) => {
    for (const line of (logs ?? []).slice(lines.length)) {
      lines.push(line);
      console.log(line.message);
    }
  },
});
console.log(data.video.url);
`;
}

const shellText = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curl({ id }, request) {
  return `curl -sS ${shellText(`${SERVER}/run/${id}`)} \\
  -H "Authorization: Key $FAL_KEY" -H 'Content-Type: application/json' \\
  -d ${shellText(stringify(request, 2))}
`;
}

function commandLine({ id, fields }, request, plan) {
  const count = newFrames(fields, plan);
  const added = count === null ? "" : ` --new-frames ${count}`;
  return `longtake extend -o ${outputName(request)} --endpoint ${id}${added} --json-input - <<'REQUEST'
${stringify(complete(fields, request), 2)}
REQUEST
`;
}

function library({ id, fields }, request, plan) {
  const whole = complete(fields, request);
  const at = (path) => path.reduce((part, name) => part?.[name], whole);
  const rest = fields.filter(
    ({ kind, path }) => !(kind === "video" && path.at(-1) === "video_url") && at(path) !== undefined,
  );
  const source = fields.find(({ kind }) => kind === "video");
  const size = (value) => (value?.width ? `(${value.width}, ${value.height})` : pythonText(value, "    "));
  const lines = rest.map(({ path }) => `    ${argument(path, fields)}=${size(at(path))},`);
  const count = newFrames(fields, plan);
  if (count !== null) lines.push(`    new_frames=${count},`);
  return `import longtake

result = longtake.extend(
    ${pythonText(at(source.path) ?? "clip.mp4")},
    "${outputName(request)}",
    endpoint="${id}",
${lines.join("\n")}
)
print(result.path)
`;
}

// The library's name of a field: a nested one has its parent's name only where another field has its own name.
function argument(path, fields) {
  const own = path.at(-1);
  const alone = fields.filter(({ name }) => name === own).length === 1;
  const name = path.length === 1 || alone ? own : path.join("_");
  return name === "loras" ? "lora" : name;
}

// Name of a form -> the function (endpoint, request, plan) that returns its code. `plan` is the server's plan of the
// request, or null if there is none (yet).
export const FORMS = {
  Python: python,
  JavaScript: javascript,
  cURL: curl,
  "Command line": commandLine,
  Library: library,
};

// Turns an endpoint's OpenAPI document into the fields of its form.

import { callJson } from "./api.js";
import { setServer } from "./stored_files.js";
import { spaced } from "./words.js";

// Name of a field -> its group. The first pattern that fits counts. Groups are shown in this order; the first is open.
const GROUPS = [
  [
    "Start",
    /^(video_url|prompt|num_frames|duration|extend_direction|mode|end_image_url|resolution|aspect_ratio|video_size)$/,
  ],
  [
    "Source and context",
    /^(start_frame_num|num_context_frames|context|reverse_video|conditioning_type|preprocess|strength|limit_num_frames|max_num_frames|resample_fps|target_fps|constant_rate_factor|video_strength|audio_strength|end_image_strength)$/,
  ],
  ["LoRAs and camera", /lora/],
  ["Prompt", /prompt/],
  ["Rate and file", /fps|frame_rate|frames_per_second|video_output_type|video_quality|video_write_mode|sync_mode/],
  ["Guidance", /(?<!multi)scale|guidance/],
  ["Sampling", /seed|step|pass|acceleration|scheduler|gamma|sampling|adain|tone_map|multiscale/],
  ["Sound and safety", /./],
];
// The order of the fields in the first group; in the others it is that of the schema.
const FIRST = [
  "video_url",
  "prompt",
  "num_frames",
  "duration",
  "extend_direction",
  "mode",
  "end_image_url",
  "resolution",
  "video_size",
  "aspect_ratio",
];
// The label and help of fields whose own words do not fit a form, or are those of another field of the same endpoint.
const WORDS = {
  video_url: ["Video", "The video to extend: a file, a URL or a recent video."],
  "video.video_url": ["Video", "The video to extend: a file, a URL or a recent video."],
  end_image_url: ["End image", "The image with which the extended video ends."],
  reverse_video: ["Play the result backwards", "Plays the finished video backwards, the source and the new frames."],
  "video.reverse_video": [
    "Play the source backwards",
    "Turns the source around before it is extended, so that the new frames continue its first frame.",
  ],
};
export const GROUP_NAMES = GROUPS.map(([name]) => name);

// Returns {id, model, standsInFor, note, sound, price, openapi, fields} of the endpoint with this id.
export async function loadEndpoint(id) {
  const [models, pricing] = await Promise.all([
    callJson(`v1/models?endpoint_id=${encodeURIComponent(id)}&expand=openapi-3.0`),
    callJson(`v1/models/pricing?endpoint_id=${encodeURIComponent(id)}`),
  ]);
  const [model] = models.models;
  const { schemas } = model.openapi.components;
  setServer(model.openapi.servers[0].url.replace(/\/queue$/, ""));
  const body = model.openapi.paths[`/${id}`].post.requestBody.content["application/json"].schema;
  const { note, model: name, stands_in_for: standsInFor, sound } = model.longtake;
  return {
    id,
    model: name,
    standsInFor,
    note,
    sound,
    price: pricing.prices[0],
    openapi: model.openapi,
    fields: fieldsOf(resolve(body, schemas), schemas).sort((left, right) => place(left) - place(right)),
  };
}

const place = ({ name }) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);

function resolve(schema, schemas) {
  const reference = schema.$ref ?? (schema.allOf?.length === 1 ? schema.allOf[0].$ref : undefined);
  if (!reference) return schema;
  const { allOf, $ref, ...own } = schema;
  return { ...schemas[reference.split("/").at(-1)], ...own };
}

// Returns the fields of a schema, those of nested objects included: {path, name, label, help, kind, group, required,
// initial, schema}. `path` is where the value stands in the request, such as ["video", "video_url"].
function fieldsOf(schema, schemas, prefix = []) {
  return schema["x-fal-order-properties"].flatMap((name) => {
    const own = resolve(schema.properties[name], schemas);
    const path = [...prefix, name];
    if (own.type === "object" && own.properties) return fieldsOf(own, schemas, path);
    const required = (schema.required ?? []).includes(name);
    const [label, help] = WORDS[path.join(".")] ?? [spaced(name), own.description ?? ""];
    const field = {
      path,
      name,
      label,
      help,
      kind: kindOf(name, own),
      group: required ? GROUP_NAMES[0] : GROUPS.find(([, pattern]) => pattern.test(name))[0],
      required,
      initial: own.default,
      example: own.examples?.[0],
      schema: own,
    };
    if (field.kind === "size") field.schema = { ...own, choices: own.anyOf.find((one) => one.enum).enum };
    return [field];
  });
}

function kindOf(name, schema) {
  if (schema.ui?.field) return schema.ui.field; // "video" or "image"
  if (name === "seed") return "seed";
  if (name === "loras") return "loras";
  if (/prompt$/.test(name) && schema.type === "string") return "prompt";
  if (schema.anyOf?.some((one) => one.enum)) return "size";
  if (schema.enum) return "choice";
  if (schema.type === "boolean") return "toggle";
  if (schema.type === "integer" || schema.type === "number")
    return "maximum" in schema && "minimum" in schema ? "slider" : "number";
  return "text";
}

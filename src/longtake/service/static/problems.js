// The problems that the server finds in a request, as sentences for people.

import { plural, rangeText, spaced } from "./words.js";

// [pattern of a problem's type, function that returns what its field must be]. The types are those of the server's
// validator, whose own texts are for programmers.
const MUST_BE = [
  [/^(greater|less)_than/, (schema) => rangeText(schema)],
  [/^int_/, (schema) => `a whole number${within(schema)}`],
  [/^(float|decimal|finite)_/, (schema) => `a number${within(schema)}`],
  [/^bool_/, () => "on or off"],
  [/^string_type$/, () => "a text"],
  [/^string_too_short$/, (_, { min_length: least }) => `at least ${plural(least, "character")} long`],
  [/^list_type$/, () => "a list"],
  [/^(model|dict)(_attributes)?_type$/, () => "an object with named fields"],
  [/^(literal_error|enum)$/, (_, { expected }) => expected && `one of these: ${expected}`],
];

const within = (schema) => (rangeText(schema) ? `, ${rangeText(schema)}` : "");

// Returns the sentence of a problem of fal's list. `field` is the form's field with the problem, if there is one.
export function sentence({ type, msg, loc, ctx = {} }, field = null) {
  const { label, isInner } = nameOf(loc, field);
  if (type === "missing") return `${label} is needed.`;
  const bounds = { minimum: ctx.ge ?? ctx.gt, maximum: ctx.le ?? ctx.lt };
  const schema = field && !isInner ? field.schema : bounds;
  const found = MUST_BE.find(([pattern]) => pattern.test(type))?.[1](schema, ctx);
  if (found) return `${label} must be ${found}.`;
  return msg.startsWith(INPUT) ? `${label} must be ${msg.slice(INPUT.length)}.` : msg;
}

const INPUT = "Input should be ";

// Returns the words for what a problem's path names, such as "LoRAs, 2, scale", and whether it is a part of the field.
function nameOf(loc, field) {
  const path = loc.slice(1); // without "body"
  const inner = field ? path.slice(field.path.length) : path.slice(1);
  const label = field?.label ?? spaced(String(path[0] ?? "This"));
  const words = inner.map((part) => (typeof part === "number" ? String(part + 1) : spaced(part).toLowerCase()));
  return { label: [label, ...words].join(", "), isInner: inner.length > 0 };
}

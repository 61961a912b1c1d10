// JSON with whole numbers of any size. A seed has up to 64 bits, and a JavaScript number keeps only 53 of them.

// A text that begins with this character stands for a number of more digits than a JavaScript number keeps.
const MARK = "\ue000";

// Returns the value of a JSON text. A seed of more than 53 bits becomes a BigInt.
export function parse(text) {
  const marked = text.replace(/("seed"\s*:\s*)(-?\d{16,})(?=\s*[,}])/g, `$1"${MARK}$2"`);
  return JSON.parse(marked, (name, value) => (name === "seed" && isMarked(value) ? whole(value.slice(1)) : value));
}

// Returns the sentence for a text that `parse` refuses with this error: the line, if the browser tells it, and the reason.
export function refusal(text, { message }) {
  const position = /position (\d+)/.exec(message)?.[1];
  const line = /line (\d+)/.exec(message)?.[1] ?? (position && text.slice(0, position).split("\n").length);
  const reason = message.replace(/^JSON\.parse: /, "").replace(/,? (in JSON )?at (position|line) .*$/, "");
  return `This is no JSON yet. ${line ? `Line ${line}: ` : ""}${reason}.`;
}

// Returns a value as JSON text. A seed that is a BigInt becomes a number.
export function stringify(value, indent) {
  const text = JSON.stringify(value, (_, one) => (typeof one === "bigint" ? `${MARK}${one}` : one), indent);
  return text?.replace(new RegExp(`("seed":\\s*)"${MARK}(-?\\d+)"`, "g"), "$1$2");
}

const isMarked = (value) => typeof value === "string" && /^\ue000-?\d+$/.test(value);

// Returns a text of digits as a number, or as a BigInt if a number would round it.
export function whole(digits) {
  const number = Number(digits);
  return Number.isSafeInteger(number) ? number : BigInt(digits);
}

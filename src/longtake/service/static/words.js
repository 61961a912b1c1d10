// Numbers, times and states as text for people.

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export const STATES = {
  waiting: "Waiting",
  running: "Running",
  done: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
};

// Returns facts as one line. Those that are not known, which are empty, null or false, are left out.
export const line = (facts) => facts.filter(Boolean).join(" · ");

// Returns a seed for `line`. It may be 0; an endpoint without a field for it has none.
export const seedWords = (seed) => (seed ?? null) !== null && `seed ${seed}`;

export const plural = (count, word) => `${number.format(count)} ${word}${count === 1 ? "" : "s"}`;

// "megapixels" -> "megapixel"
const singular = (word) => word.replace(/s$/, "");

// 75 -> "1 min 15 s", 0.04 -> "0.04 s"
export function seconds(value) {
  if (value < 60) return `${(value < 1 ? fine : number).format(value)} s`;
  const whole = Math.round(value);
  const minutes = Math.floor(whole / 60);
  const rest = (count, unit) => (count ? ` ${count} ${unit}` : "");
  if (minutes < 60) return `${minutes} min${rest(whole % 60, "s")}`;
  return `${Math.floor(minutes / 60)} h${rest(minutes % 60, "min")}`;
}

// Returns an estimated time as text. A long one has fewer digits: 83 -> "1 min 23 s", 183 -> "3 min 5 s"
export function roughly(value) {
  const step = value < 120 ? 1 : value < 600 ? 5 : 60;
  return seconds(Math.max(step, Math.round(value / step) * step));
}

export function bytes(count) {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (count < 1000) return `${number.format(count)} ${unit}`;
    count /= 1000;
  }
  return `${number.format(count)} TB`;
}

// {minimum: 9, maximum: 1441} -> "9 to 1441"; empty if the schema has no bounds.
export function rangeText({ minimum, maximum }) {
  if (minimum !== undefined && maximum !== undefined) return `${minimum} to ${maximum}`;
  if (minimum !== undefined) return `at least ${minimum}`;
  return maximum === undefined ? "" : `at most ${maximum}`;
}

// Returns what a badge says about a model's sound.
export const soundWords = (makesSound) => (makesSound ? "with sound" : "the source's sound only");

export const when = (unix) => moment.format(new Date(unix * 1000));

// "0.10080" -> "$0.1008"
export function dollars(value) {
  const amount = Number(value);
  return `$${amount >= 0.01 || amount === 0 ? amount.toFixed(amount < 1 ? 3 : 2) : amount.toPrecision(2)}`;
}

// A price of fal -> "$0.020 per second on fal"
export const perUnit = ({ unit_price: price, unit }) => `${dollars(price)} per ${singular(unit)} on fal`;

const WORDS = {
  num: "number of",
  fps: "frames per second",
  lora: "LoRA",
  loras: "LoRAs",
  cfg: "CFG",
  stg: "STG",
  gif: "GIF",
  adain: "AdaIN",
  hd: "HD",
  rgb: "RGB",
};

// Name of a field or a value -> its words: "num_inference_steps" -> "Number of inference steps", "video_url" -> "Video"
export function spaced(name) {
  const text = name
    .replace(/_url$/, "")
    .replace(/_num$/, "_number")
    .replace(/_(\d+)_(\d+)$/, "_$1:$2")
    .split("_")
    .map((word) => WORDS[word] ?? word)
    .join(" ");
  return text[0].toUpperCase() + text.slice(1);
}

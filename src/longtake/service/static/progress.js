// How much of a request is done, over all stages of the work, and how long it still takes.

import { callJson } from "./api.js";

// The stages that precede the windows, in the order of the work.
const FIRST = ["context", "footage", "load", "prompt"];
// The other stages, in the order of the work -> the seconds that each takes of a request of 100 s, for an endpoint without
// an earlier request.
const USUAL = { encode: 4, sampling: 62, sound: 1, frames: 20, writing: 10, reversing: 0 };
const REST = Object.keys(USUAL);
const ORDER = [...FIRST, ...REST];
// The stages that are repeated for each window, and may go on side by side.
const WINDOWED = REST.filter((name) => name !== "reversing");

// The part of the bar for what precedes the windows. It is short, because the number of windows is not known then, and
// the work on many windows takes much longer.
const FIRST_SHARE = 0.08;
// The bar's end is reached with the result.
const MOST = 0.99;
// The time left is told from this share on, and after these seconds.
const TOLD_SHARE = 0.08;
const TOLD_S = 2;
// A new estimate of the time left replaces the told one if it is so many times longer, and so many seconds more.
const [WRONG, WRONG_S] = [2, 3];

// Returns stage -> seconds of the endpoint's newest request that has ended well, or of a usual request.
export async function usualTimes(endpoint) {
  const { requests } = await callJson(`page/requests?${new URLSearchParams({ endpoint, state: "done" })}`);
  return requests.find(({ timings }) => timings.sampling)?.timings ?? USUAL;
}

// Returns the finished share (0..1) of each stage, from those known before, and a report: the progress of a status or of
// an entry. No share becomes smaller.
function stageShares(known, { stage, step, steps, window, windows, pass, passes }) {
  const own = (window - 1 + (pass - 1 + step / Math.max(steps, 1)) / passes) / windows;
  const place = ORDER.indexOf(stage);
  // A source that plays after the new frames is written when all of them are.
  const isLast = stage === "reversing" || (stage === "footage" && known.writing === 1);
  const least = (name) => {
    if (name === stage) return own;
    if (isLast) return 1;
    if (ORDER.indexOf(name) > place) return 0;
    if (!WINDOWED.includes(name)) return 1;
    return name === "encode" && stage !== "writing" ? window / windows : own;
  };
  return Object.fromEntries(ORDER.map((name) => [name, Math.max(known[name] ?? 0, Math.min(1, least(name)))]));
}

// Returns the finished share of the work from the first window on, from the shares of its stages and their usual times.
function restShare(shares, times) {
  const weight = (name) => times[name] ?? 0;
  const sum = (of) => REST.reduce((total, name) => total + of(name), 0);
  return sum((name) => weight(name) * (shares[name] ?? 0)) / (sum(weight) || 1);
}

// Returns the share of a request's work that is done, as a bar shows it, from the shares of its stages.
function barShare(shares, times) {
  const first = FIRST.reduce((total, name) => total + (shares[name] ?? 0), 0) / FIRST.length;
  return FIRST_SHARE * first + (MOST - FIRST_SHARE) * restShare(shares, times);
}

// Returns a function for the bar of one request. It takes the progress of one entry after the other, and returns the share
// that the bar shows, 0..1.
export function gauge() {
  let shares = {};
  return (report) => barShare((shares = stageShares(shares, report)), USUAL);
}

// Returns {read, left, setTimes} for one request. `read(report, log, now)` takes a status's progress and its log, and the
// server's time in seconds, and returns the share that the bar shows, 0..1. `left(now)` returns the seconds that are left,
// or null if that cannot be told yet. `setTimes(times)` sets the usual times.
export function estimate() {
  let times = USUAL;
  let shares = {};
  let shown = 0;
  let hasRead = false;
  let since = null; // when the first window began
  let told = null;

  function read(report, log, now) {
    // What happened before the page was opened is in the log.
    if (!hasRead) shares = log.map(begun).filter(Boolean).reduce(stageShares, {});
    hasRead = true;
    if (WINDOWED.includes(report.stage))
      since ??= Math.min(now, ...log.filter(({ labels }) => WINDOWED.includes(labels.stage)).map(at));
    shares = stageShares(shares, report);
    shown = Math.max(shown, barShare(shares, times));
    return shown;
  }

  function left(now) {
    if (since === null) return null; // it depends on the number of windows
    const share = restShare(shares, times);
    const spent = now - since;
    if (share < TOLD_SHARE || spent < TOLD_S) return null;
    const guess = (spent * (1 - share)) / share;
    if (!told || guess > WRONG * told.left + WRONG_S) told = { left: guess, at: now };
    // The told time goes down at the pace with which it ends together with the estimate. It does so also while a long
    // step lets the estimate grow, so it neither stands still nor ends too early.
    const passed = Math.max(0, now - told.at);
    told = { left: told.left * (passed ? guess / (guess + passed) : 1), at: Math.max(now, told.at) };
    return told.left;
  }
  return { read, left, setTimes: (found) => (times = found) };
}

// Returns the report of a stage's begin from its line in the log; null for another line.
function begun({ labels: { stage, window, windows } }) {
  if (!ORDER.includes(stage)) return null;
  return { stage, step: 0, steps: 1, window: Number(window), windows: Number(windows), pass: 1, passes: 1 };
}

// The time of a line of the log in seconds. fal writes times in UTC without an offset.
export const at = ({ timestamp }) => Date.parse(`${timestamp.replace(/Z$/, "")}Z`) / 1000;

// The output of the playground: an example, the running request, its result, or the code of the request in the form.

import { entryPath } from "./addresses.js";
import { Refused, callJson } from "./api.js";
import { codePanel } from "./code.js";
import { button, by, el, toast } from "./dom.js";
import { exampleView } from "./example.js";
import { four } from "./four.js";
import { stringify } from "./json.js";
import { allowNotifications, notify } from "./notify.js";
import { resultView } from "./result.js";
import { outcome, statuses, submit, withoutCut } from "./run.js";
import { runningView } from "./running.js";
import { renew } from "./shell.js";
import { fileUrl } from "./stored_files.js";
import { tabList } from "./tabs.js";

const HOW = "Drop a video, write what happens next, and run. The plan and the price appear before you do.";

// Builds the output beside a form. Returns {open, run, offerSettings, showCode}: `open` shows what the page's address
// names, `run` submits the form's request, `offerSettings(settings)` offers those of a dropped file, and
// `showCode(request, plan)` writes the code. `submitter` is the button that runs the request. `hasDraft` tells whether the
// form has what was entered before.
export function outputPanel(endpoint, form, submitter, { hasDraft }) {
  const { id } = endpoint;
  const source = form.field("video_url");
  const output = by("output");
  const view = el("div", { class: "view-of-result" });
  const code = el("div", { id: "code" });
  const tabs = tabList("Result or code", ["Result", "Code"], [view, code], () => {});
  const { node: panel, show: showCode } = codePanel(endpoint);
  let following = new AbortController();
  let release = () => {};
  let isSending = false;
  let keepsForm = hasDraft; // until something else is opened
  code.append(panel);
  output.replaceChildren(tabs.node, view, code);
  tabs.choose("Result");

  // Offers the settings that a dropped result has in its metadata. They fill the form at once if nobody changed it, and if
  // they name no file elsewhere: the server would fetch that for the plan, and anybody can write such settings.
  function offerSettings({ endpoint: other, input }) {
    const fill = () => {
      form.set(withoutCut(input), { except: source });
      toast("The settings in the file fill the form");
    };
    const link = el("a", { href: `../${other}` }, other);
    if (other !== id) source.note(el("span", {}, "This file was made with ", link, "."));
    else if (isUntouched() && !namesFiles(input)) fill();
    else source.note(button("Use the settings in the file", fill, { class: "plain" }));
  }

  // Whether the form has only its beginning and a source, and nothing is on its way into it.
  function isUntouched() {
    if (form.pending()) return false;
    const others = endpoint.fields.filter(({ required, name }) => !required && name !== "prompt");
    const { field, get } = form.field("prompt");
    return get() === (field.example ?? field.initial) && others.every((one) => form.isInitial(one.path));
  }

  // Begins a new view, and ends what the view before it did. Returns the signal that ends the new one.
  function begin() {
    following.abort();
    following = new AbortController();
    return following.signal;
  }

  // Shows what the page's address names: a request, four of them, a source to extend, or nothing yet.
  async function open() {
    const signal = begin();
    const query = new URLSearchParams(location.search);
    const typed = stringify(form.value());
    const keeps = keepsForm;
    keepsForm = false;
    if (query.has("source")) source.set(fileUrl(query.get("source")));
    if (query.has("four")) showFour(query.get("four").split(",").slice(0, 4));
    else if (query.has("request")) {
      const request = query.get("request");
      const entry = await callJson(entryPath(request), { signal }).catch(() => null);
      if (signal.aborted) return;
      // What a person has typed or is sending while the request was on its way is not replaced.
      if (entry?.input && !keeps && !form.pending() && stringify(form.value()) === typed) form.set(withoutCut(entry.input));
      follow(request);
    } else idle();
  }

  function idle() {
    const { node, release: free } = exampleView(endpoint.sound, tryExample);
    show("An example", el("p", { class: "lead" }, HOW), node);
    release = free;
  }

  // Puts the source, which `load` promises, and the prompt of the example into the form, which then shows its plan.
  function tryExample(load, prompt) {
    source.deliver("Sending the example", load);
    form.set({ ...form.value(), prompt }, { except: source });
    form.field("prompt").focus();
  }

  // Shows a view with its heading, which gets the focus if what was shown before had it. Returns the heading.
  function show(title, ...nodes) {
    release();
    release = () => {};
    const heading = el("h2", { tabindex: -1 }, title);
    const hadFocus = view.contains(document.activeElement);
    view.replaceChildren(heading, ...nodes);
    if (hadFocus) heading.focus({ preventScroll: true });
    return heading;
  }

  function go(address) {
    if (location.search !== address) history.pushState(null, "", address || location.pathname);
  }

  // Returns whether the form's request can be sent. If not, the page says why.
  function isReady() {
    const reason = form.pending();
    if (reason) toast(reason, { failed: true });
    return !reason && form.isComplete();
  }

  // Submits requests, unless others are being sent. Calls `refuse` with the first error. Returns the ids of those that
  // the server took, or null if there are none.
  async function send(requests, refuse) {
    if (isSending) return null;
    isSending = true; // the button is not disabled, because it would lose the focus
    submitter.setAttribute("aria-busy", "true");
    allowNotifications();
    const ends = await Promise.allSettled(requests.map((request) => submit(id, request)));
    isSending = false;
    submitter.removeAttribute("aria-busy");
    renew();
    const error = ends.find(({ reason }) => reason)?.reason;
    if (error) refuse(error);
    const made = ends.flatMap(({ value }) => value ?? []);
    return made.length ? made : null;
  }

  const complain = (error) => toast(error.message, { failed: true });
  // Returns whether the server has refused a request for problems that the form still has.
  const isOfForm = (request, error) => error instanceof Refused && error.detail.length > 0 && form.has(request);

  async function run() {
    if (!isReady()) return;
    form.complain([]);
    const request = form.value();
    const refuse = (error) => (isOfForm(request, error) ? form.complain(error.detail) : complain(error));
    const made = await send([request], refuse);
    if (!made) return;
    tabs.choose("Result");
    go(`?request=${made[0]}`);
    follow(made[0]);
  }

  // Scrolls to the output: on a narrow page, where it is below the form, to its beginning.
  function bringIntoView() {
    output.scrollIntoView({ block: matchMedia("(max-width: 56rem)").matches ? "start" : "nearest" });
  }

  async function follow(request) {
    const signal = begin();
    const running = runningView(id, request);
    let wasOpen = false;
    const heading = show("Waiting", running.node);
    release = running.stop;
    bringIntoView();
    try {
      for await (const status of statuses(id, request, signal)) {
        wasOpen ||= status.status === "IN_QUEUE" || status.status === "IN_PROGRESS";
        if (status.status === "IN_PROGRESS") heading.textContent = "Running";
        running.update(status);
      }
      if (signal.aborted) return;
      const { made, entry, error } = await outcome(id, request, signal);
      if (signal.aborted) return;
      if (made) await showResult(entry, made, signal);
      else showFailure(entry, error, running);
      if (wasOpen) notify(made ? "Your video is ready." : `A request has ended: ${entry.state}.`);
    } catch (error) {
      if (!signal.aborted) showMissing(error);
    } finally {
      running.stop();
      renew();
    }
  }

  async function showResult(entry, made, signal) {
    const { node, release: free } = await resultView(entry, made, { extend, again, four: runFour, edit });
    if (signal.aborted) {
      free();
      return;
    }
    const heading = show("Result", node);
    release = free;
    if (document.activeElement === document.body) heading.focus();
  }

  // Shows why a request cannot be followed: it is unknown, or the server refuses to tell.
  function showMissing(error) {
    const isUnknown = error instanceof Refused && error.status === 404;
    const text = isUnknown ? "There is no such request." : error.message;
    show(isUnknown ? "Not found" : "It failed", el("p", { class: "error", role: "alert" }, text));
  }

  function showFailure(entry, error, running) {
    if (entry.state === "done") {
      const reason = entry.erased_at ? "This result was deleted." : error.message;
      show(error.status === 404 ? "Deleted" : "It failed", el("p", { class: "empty", role: "alert" }, reason));
      return;
    }
    if (isOfForm(withoutCut(entry.input ?? {}), error)) form.complain(error.detail);
    const isCancelled = entry.state === "cancelled";
    const text = isCancelled ? "The request was cancelled." : (error?.message ?? entry.error ?? "It failed.");
    const retry = entry.input && button("Run again", () => again(withoutCut(entry.input)));
    const message = el("p", { class: isCancelled ? "quiet" : "error", role: "alert" }, text);
    const title = isCancelled ? "Cancelled" : "It failed";
    const heading = show(title, message, el("div", { class: "actions" }, retry), running.log);
    if (document.activeElement === document.body) heading.focus();
  }

  // Puts a result into the form as the next source. The result is shown until the new request begins.
  function extend(path) {
    go(`?source=${encodeURIComponent(path)}`);
    source.set(fileUrl(path));
    by("form").scrollIntoView({ block: "start" });
    form.field("prompt").focus();
  }

  function edit(input) {
    form.set(input);
    by("form").scrollIntoView({ block: "start" });
    form.field("prompt").focus();
    toast("The form has the request's settings");
  }

  function again(input) {
    form.set(input);
    return run();
  }

  // Runs a request four times: with four seeds, or, if the endpoint takes none, simply four times.
  async function runFour(input) {
    const first = Math.floor(Math.random() * 2 ** 30);
    const seeded = (number) => (form.field("seed") ? { ...input, seed: first + number } : input);
    const made = await send([0, 1, 2, 3].map(seeded), complain);
    if (!made) return;
    tabs.choose("Result");
    go(`?four=${made.join(",")}`);
    showFour(made);
  }

  function showFour(requests) {
    const signal = begin();
    const pick = (request) => {
      go(`?request=${request}`);
      open();
    };
    const onRerun = (ids) => history.replaceState(null, "", `?four=${ids.join(",")}`);
    const onEnd = () => notify("Your four takes have ended.");
    show("Four takes", four(id, requests, { pick, onRerun, onEnd }, signal));
    bringIntoView();
  }

  addEventListener("popstate", open);
  return { open, run, offerSettings, showCode };
}

// Returns whether settings name files by addresses elsewhere.
const namesFiles = (settings) => /"\s*https?:/i.test(stringify(settings));

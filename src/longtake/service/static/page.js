// Loads the list of requests again and again, and shows it. The element of a request that is still on the list stays in
// the page, so that its video does not stop.

const KEY = "longtake.key";
const BUSY_MS = 1000;
const IDLE_MS = 2000;
const NAMES = { waiting: "Waiting", running: "Running", done: "Done", failed: "Failed", cancelled: "Cancelled" };

const at = (id) => document.getElementById(id);
const shown = new Map();
let before = null;
let timer = 0;
let turn = 0;

const size = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function seconds(value) {
  if (value < 60) return `${size.format(value)} s`;
  const minutes = Math.floor(value / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(value % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function plural(count, word) {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

function figures(request, now) {
  const parts = [clock.format(new Date(request.created_at * 1000))];
  const { video } = request;
  if (request.state === "waiting") {
    parts.push(`for ${seconds(Math.max(now - request.created_at, 0))}`);
    if (request.position !== null) parts.push(request.position === 0 ? "next in line" : `${request.position} before it`);
  } else if (request.state === "running") {
    parts.push(`for ${seconds(Math.max(now - request.started_at, 0))}`);
  } else if (request.started_at) {
    parts.push(`took ${seconds(Math.max(request.completed_at - request.started_at, 0))}`);
  }
  if (video?.width) parts.push(`${video.width} × ${video.height}`);
  if (video?.duration) parts.push(seconds(video.duration) + (video.num_frames ? `, ${plural(video.num_frames, "frame")}` : ""));
  if (request.state === "done" && !video) parts.push("no file is kept");
  if (request.seed !== null && request.seed !== undefined) parts.push(`seed ${request.seed}`);
  if (request.model) parts.push(request.model);
  if (request.attempt > 1) parts.push(`attempt ${request.attempt}`);
  if (Number(request.price_usd) > 0) parts.push(`$${request.price_usd}`);
  return parts.join(" · ");
}

function screen(box, video, prompt) {
  if (!video || box.firstElementChild?.getAttribute("src") === video.url || box.dataset.gone === video.url) return;
  const picture = video.content_type?.startsWith("image/");
  const fresh = document.createElement(picture ? "img" : "video");
  Object.assign(fresh, picture ? { alt: prompt } : { controls: true, loop: true, preload: "metadata", playsInline: true });
  fresh.setAttribute("src", video.url);
  fresh.addEventListener("error", () => {
    box.textContent = "The file is no longer here, or not for this page";
    box.dataset.gone = video.url;
  });
  box.replaceChildren(fresh);
}

function draw(request, now) {
  let item = shown.get(request.id);
  if (!item) {
    item = at("request").content.firstElementChild.cloneNode(true);
    item.dataset.id = request.id;
    shown.set(request.id, item);
  }
  const part = (name) => item.querySelector(`.${name}`);
  const set = (name, text) => { if (part(name).textContent !== text) part(name).textContent = text; };
  item.className = `request ${request.state}${request.video ? " film" : ""}`;
  set("state", NAMES[request.state]);
  set("endpoint", request.endpoint);
  set("prompt", request.prompt);
  set("error", request.error ?? "");
  set("note", request.stand_in ?? "");
  set("figures", figures(request, now));
  set("id", request.id);
  part("progress").hidden = request.state !== "running";
  if (request.state === "running") {
    const bar = item.querySelector("progress");
    const share = request.progress?.share;
    if (typeof share === "number") bar.value = share;
    else bar.removeAttribute("value");
    set("stage", request.progress?.message ?? "Starting");
  }
  screen(part("screen"), request.video, request.prompt);
  return item;
}

function tell(list) {
  const words = [];
  if (list.running) words.push(`${list.running} running`);
  if (list.waiting) words.push(`${list.waiting} waiting`);
  at("summary").textContent = words.join(", ") || (list.requests.length ? "Nothing to do" : "");
  at("slots").textContent = list.slots.map((slot) => `${slot.name}: ${slot.state}`).join(" · ");
  at("none").hidden = list.requests.length > 0 || before !== null;
  at("older").hidden = list.older === null;
  at("older").dataset.before = list.older ?? "";
  at("newest").hidden = before === null;
  at("pages").hidden = at("older").hidden && at("newest").hidden;
  const items = list.requests.map((request) => draw(request, list.now));
  const kept = new Set(list.requests.map((request) => request.id));
  for (const [id, item] of shown) if (!kept.has(id)) { item.remove(); shown.delete(id); }
  const box = at("requests");
  items.forEach((item, place) => { if (box.children[place] !== item) box.insertBefore(item, box.children[place] ?? null); });
}

function ask(refusal) {
  at("door").hidden = false;
  at("refusal").textContent = refusal;
  at("leave").hidden = at("none").hidden = at("pages").hidden = true;
  at("summary").textContent = at("slots").textContent = "";
  at("requests").replaceChildren();
  shown.clear();
  at("key").focus();
}

async function renew() {
  clearTimeout(timer);
  const mine = ++turn;
  const key = sessionStorage.getItem(KEY);
  let pause = IDLE_MS;
  try {
    const reply = await fetch(`page/requests${before === null ? "" : `?before=${before}`}`, {
      headers: key ? { Authorization: `Key ${key}` } : {},
    });
    if (mine !== turn) return;
    if (reply.status === 401) {
      sessionStorage.removeItem(KEY);
      ask(key ? "This key does not open the server." : "");
      return;
    }
    if (!reply.ok) throw new Error(`The server answered ${reply.status}`);
    const list = await reply.json();
    if (mine !== turn) return;
    at("door").hidden = true;
    at("leave").hidden = !key;
    tell(list);
    if (list.running || list.waiting) pause = BUSY_MS;
  } catch (error) {
    if (mine !== turn) return;
    at("summary").textContent = error instanceof TypeError ? "The server does not answer; trying again" : `${error.message}; trying again`;
  }
  if (!document.hidden) timer = setTimeout(renew, pause);
}

at("door").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, at("key").value.trim());
  at("key").value = "";
  renew();
});
at("leave").addEventListener("click", () => { sessionStorage.removeItem(KEY); renew(); });
at("older").addEventListener("click", () => { before = at("older").dataset.before; renew(); });
at("newest").addEventListener("click", () => { before = null; renew(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) renew(); });
renew();

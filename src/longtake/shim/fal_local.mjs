// Redirects @fal-ai/client to the server at FAL_LOCAL_URL. The program itself need not be changed. Start it with:
//
//     FAL_LOCAL_URL=http://127.0.0.1:8000 NODE_OPTIONS=--import=<the file URL of this module>
//
// This module replaces the global function fetch by one that sends requests for fal's hosts to that server.

const SERVICES = {
  "fal.run": "run",
  "falrun.com": "run",
  "queue.fal.run": "queue",
  "queue.falrun.com": "queue",
  "rest.fal.ai": "rest",
  "rest.alpha.fal.ai": "rest",
  "v3.fal.media": "cdn",
  "v3b.fal.media": "cdn",
};

const server = process.env.FAL_LOCAL_URL?.replace(/\/+$/, "");
const originalFetch = globalThis.fetch;

function redirected(address) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return address;
  }
  const service = Object.hasOwn(SERVICES, url.hostname) ? SERVICES[url.hostname] : undefined;
  return service === undefined ? address : `${server}/${service}${url.pathname}${url.search}`;
}

if (server) {
  globalThis.fetch = (input, init) =>
    input instanceof Request
      ? originalFetch(new Request(redirected(input.url), input), init)
      : originalFetch(redirected(input), init);
}

// fal's own proxy for servers, in front of ours: what its handler makes of four requests.

import proxy from "@fal-ai/server-proxy";

async function handled(method, target, body) {
  const answer = {};
  await proxy.handleRequest(
    {
      id: "test",
      method,
      getRequestBody: async () => body && JSON.stringify(body),
      getHeaders: () => ({ "x-fal-target-url": target, "user-agent": "test" }),
      getHeader: (name) => ({ "x-fal-target-url": target, "user-agent": "test" })[name],
      sendHeader: () => {},
      respondWith: (status, data) => Object.assign(answer, { status, data }),
      sendResponse: async (response) => Object.assign(answer, { status: response.status, data: await response.json() }),
      resolveApiKey: async () => process.env.FAL_KEY,
    },
    { allowUnauthorizedRequests: true, resolveFalAuth: async () => `Key ${process.env.FAL_KEY}` },
  );
  return answer;
}

const id = "fal-ai/ltxv-13b-098-distilled";
const input = { prompt: "quick", video: { video_url: "data:video/mp4;base64,AAAA" } };
const submitted = await handled("POST", `https://queue.fal.run/${id}/extend`, input);
console.log(submitted.status, submitted.data.status);
const initiated = await handled("POST", "https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3", {});
console.log(initiated.status, Object.keys(initiated.data)[0]);
const status = await handled("GET", `https://queue.fal.run/${id}/requests/${submitted.data.request_id}/status`);
console.log(status.status === 202 || status.status === 200 ? 200 : status.status, submitted.data.status);
const elsewhere = await handled("GET", "https://example.com/");
console.log(elsewhere.status, elsewhere.data);
process.exit(0);

// The addresses of the server and of its requests. They are relative to the page, so that the pages work behind a path
// prefix.

// The server's first page, relative to this page.
export const ROOT = document.documentElement.dataset.root;
// The address of the server's first page, which is also that of the server for programs.
export const HOME = new URL(ROOT || ".", location.href).href;

// Without this, an id in a link, such as "../../cdn/files/x.json", would lead to a file that somebody has uploaded.
const part = encodeURIComponent;

// Addresses for `call` and `callJson`, of the request with this id: its entry in the history, its own address in the
// queue, what this server tells about it besides, and its stored input and files.
export const entryPath = (id) => `page/requests/${part(id)}`;
export const queuePath = (endpoint, id) => `queue/${endpoint}/requests/${part(id)}`;
export const aboutPath = (endpoint, id) => `models/${endpoint}/requests/${part(id)}`;
export const payloadsPath = (id) => `v1/models/requests/${part(id)}/payloads`;

// Addresses for links: the playground with a request or with a stored file as its source, the chain that a request
// belongs to, and the comparison of one result or of two.
export const requestPage = ({ endpoint, id }) => `${ROOT}models/${endpoint}?request=${part(id)}`;
export const extendPage = (endpoint, path) => `${ROOT}models/${endpoint}?source=${part(path)}`;
export const chainPage = (id) => `${ROOT}history?chain=${part(id)}`;
export const comparePage = (first, second) =>
  `${ROOT}compare?a=${part(first)}${second === undefined ? "" : `&b=${part(second)}`}`;

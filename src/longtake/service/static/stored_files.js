// The names of the server's stored files: their keys, the page's addresses of them, and their URLs in requests.

const FILE = /(?:^|\/)cdn\/files\/([\w-]{32}(?:\.[a-z0-9]{1,8})?)$/;

// Returns the key of a file of this server in its URL or in the page's address of it; null for anything else.
export function fileKey(url) {
  const found = FILE.exec(url ?? "")?.[1] ?? null;
  return /^[a-z]+:/i.test(url ?? "") && !ours(url) ? null : found;
}

// Returns whether a URL leads to this server, by the page's address of it or by the one that the server itself uses.
function ours(url) {
  try {
    const place = (one) => new URL(one).host.replace(/^(127\.0\.0\.1|\[::1\])/, "localhost");
    return [location.href, server ?? location.href].some((own) => place(own) === place(url));
  } catch {
    return false;
  }
}

// Returns the page's address of a file of this server, without the host that the URL has; null for anything else.
export const fileAddress = (url) => (fileKey(url) ? `cdn/files/${fileKey(url)}` : null);

let server = null;
// Sets the URL of the server as it names itself in its documents. Behind a path prefix, the page's own address differs.
export const setServer = (url) => {
  server = url;
};

// Returns the URL by which a request names a file of this server, from the page's address of the file.
export const fileUrl = (path) => `${server}/${path}`;

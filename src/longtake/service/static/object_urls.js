// Object URLs: addresses of blobs, by which elements show them. A blob stays in memory as long as its address. This is
// the only place of the pages that makes such addresses, and each of them ends with what shows it.

// Returns {address, release} for a blob. The address is good until `release` is called or `signal`, if there is one, is
// aborted.
export function objectUrl(blob, signal) {
  const address = URL.createObjectURL(blob);
  const release = () => URL.revokeObjectURL(address);
  if (signal?.aborted) release();
  else signal?.addEventListener("abort", release, { once: true });
  return { address, release };
}

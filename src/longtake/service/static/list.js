// Keeps the items of a list in order without moving those that are in their places already.

// Makes `nodes` the only children of `list`, in their order. The focus stays where it is, also if its item moves.
export function place(list, nodes) {
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  const kept = new Set(nodes);
  for (const node of [...list.children]) if (!kept.has(node)) node.remove();
  nodes.forEach((node, index) => {
    const other = list.children[index];
    if (other !== node) list.insertBefore(node, other ?? null);
  });
  if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
}

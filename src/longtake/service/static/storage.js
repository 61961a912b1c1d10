// What a browser keeps for these pages. It may be told to keep nothing, or have no room: what is stored then lasts only
// as long as the page. No function here throws.

const attempt = (act) => {
  try {
    return act();
  } catch {
    return null;
  }
};

// Returns {get, set, remove, clear} of the storage that `open()` returns. A browser that keeps nothing throws there.
function storage(open) {
  const held = new Map(); // what the browser does not keep
  const get = (name) => held.get(name) ?? attempt(() => open().getItem(name));
  const remove = (name) => {
    held.delete(name);
    attempt(() => open().removeItem(name));
  };
  const set = (name, text) => {
    held.delete(name);
    try {
      open().setItem(name, text);
    } catch {
      remove(name); // an older text would come back in its place
      held.set(name, text);
    }
  };
  const clear = () => {
    held.clear();
    attempt(() => open().clear());
  };
  return { get, set, remove, clear };
}

export const ofTab = storage(() => sessionStorage);
export const ofAllTabs = storage(() => localStorage);

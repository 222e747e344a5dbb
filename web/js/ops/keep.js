// Owns: changing what is shown without making it anew, so that focus, a selection and the place where one reads outlive an update.

/** Nodes by key, of each parent. */
const known = new WeakMap();

/**
 * Makes the children of `parent` those of `items`, in their order. `make(item)` gives a view with a `root`, and `update(item)` where
 * it can change; a view lives as long as an item with its `key(item)` is there.
 */
export function keep(parent, items, key, make) {
  const before = known.get(parent) ?? new Map();
  const after = new Map();
  for (const item of items) {
    const name = key(item);
    const view = before.get(name) ?? make(item);
    view.update?.(item);
    after.set(name, view);
  }
  for (const [name, view] of before) if (!after.has(name)) view.root.remove();
  let place = parent.firstChild;
  for (const { root } of after.values()) {
    if (root === place) place = place.nextSibling;
    else parent.insertBefore(root, place);
  }
  known.set(parent, after);
}

/** The view of a key, or `undefined`. */
export function kept(parent, key) {
  return known.get(parent)?.get(key);
}

/** Says `text` in `node`, which is left alone where it says that already. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Gives `node` what `make()` makes, unless that would be made of the same `facts` as the last time. */
export function remake(node, facts, make) {
  const written = JSON.stringify(facts) ?? '';
  if (node.dataset.facts === written) return;
  node.dataset.facts = written;
  node.replaceChildren(...[make()].flat(Infinity).filter(Boolean));
}

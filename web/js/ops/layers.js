// Owns: where the steps of a workflow stand in a drawing. Each stands one layer after the last of those that it waits for; in a
// layer, near those that it is joined with. Pure. The idea is Sugiyama's (layers by longest path, order by barycentres).

const SWEEPS = 4;

/**
 * `steps`: `{name, after, compensates}`. Gives `{nodes, edges, layers, breadth}`: a node is `{name, layer, place}`, an edge `{from,
 * to, via}` with the places where it passes the layers between; `layers` is how many there are, `breadth` how many places the fullest has.
 */
export function arrange(steps) {
  const own = steps.filter((step) => !step.compensates);
  const layerOf = longestPaths(own);
  const layers = Array.from({ length: Math.max(0, ...own.map((step) => layerOf.get(step.name) + 1)) }, () => []);
  const spots = new Map(own.map((step) => [step.name, spot(step.name, layerOf.get(step.name), layers)]));
  const edges = own.flatMap((step) => step.after.filter((name) => spots.has(name)).map((name) => join(spots.get(name), spots.get(step.name), layers)));
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) order(layers, sweep % 2 === 0);
  for (const step of steps.filter(({ compensates }) => spots.has(compensates))) beside(spots, step, layers, edges);
  const breadth = Math.max(1, ...layers.map((layer) => layer.length));
  for (const layer of layers) layer.forEach((one, at) => { one.place = at + (breadth - layer.length) / 2; });
  const at = ({ name, layer, place }) => ({ name, layer, place });
  return { nodes: [...spots.values()].map(at), edges: edges.map(({ from, to, via, kind }) => ({ from: from.name, to: to.name, kind, via: via.map(at) })), layers: layers.length, breadth };
}

/** In which layer each step is: 0 for those that wait for nothing. */
function longestPaths(steps) {
  const known = new Map(steps.map((step) => [step.name, step]));
  const found = new Map();
  const walk = (name, path) => {
    // What the server accepted has no circle; a drawing of anything else shall end, too.
    if (found.has(name) || path.has(name)) return found.get(name) ?? 0;
    const before = known.get(name).after.filter((one) => known.has(one));
    found.set(name, before.reduce((most, one) => Math.max(most, 1 + walk(one, new Set(path).add(name))), 0));
    return found.get(name);
  };
  for (const { name } of steps) walk(name, new Set());
  return found;
}

function spot(name, layer, layers) {
  const one = { name, layer, place: 0, before: [], after: [] };
  layers[layer].push(one);
  return one;
}

/** An edge, with a spot of its own in each layer that it passes. */
function join(from, to, layers) {
  const via = [];
  let last = from;
  for (let layer = from.layer + 1; layer <= to.layer; layer += 1) {
    const next = layer === to.layer ? to : spot(null, layer, layers);
    last.after.push(next);
    next.before.push(last);
    if (next !== to) via.push(next);
    last = next;
  }
  return { from, to, via, kind: 'then' };
}

/** Has each layer follow the order of its neighbours on one side. */
function order(layers, isForward) {
  const number = (layer) => layer.forEach((one, at) => { one.place = at; });
  layers.forEach(number);
  for (const layer of isForward ? layers : layers.toReversed()) {
    const wished = new Map(layer.map((one) => [one, middle(isForward ? one.before : one.after) ?? one.place]));
    layer.sort((a, b) => wished.get(a) - wished.get(b));
    number(layer);
  }
}

function middle(neighbours) {
  return neighbours.length === 0 ? null : neighbours.reduce((sum, one) => sum + one.place, 0) / neighbours.length;
}

/** What undoes a step stands next to it. */
function beside(spots, { name, compensates }, layers, edges) {
  const undone = spots.get(compensates);
  const one = { name, layer: undone.layer, place: 0, before: [], after: [] };
  const layer = layers[undone.layer];
  layer.splice(layer.indexOf(undone) + 1, 0, one);
  spots.set(name, one);
  edges.push({ from: undone, to: one, via: [], kind: 'undo' });
}

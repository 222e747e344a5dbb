// Owns: the drawing of a workflow's run: steps as boxes that say their state by a word and an icon, what waits for what as lines.

import { drawn, icon } from '../element.js';
import { say } from './keep.js';
import { arrange } from './layers.js';
import { STATE_ICONS, stateName } from './state.js';

const WIDTH = 190;
const HEIGHT = 58;
const GAP = { along: 42, across: 22 };
const MARGIN = 4;
const NAME = 22;

export class Graph {
  #shape = null;
  #views = new Map();

  /** `onChoose(name)`: somebody wants to see that step. */
  constructor(root, onChoose) {
    this.root = root;
    this.onChoose = onChoose;
    this.narrow = matchMedia('(max-width: 799px)');
  }

  /** Draws the steps; what stays the same is not drawn anew. */
  show(steps) {
    const shape = JSON.stringify([this.narrow.matches, steps.map(({ name, after, compensates }) => [name, after, compensates])]);
    if (shape !== this.#shape) this.#draw(steps);
    this.#shape = shape;
    for (const step of steps) this.#views.get(step.name)?.update(step);
  }

  #draw(steps) {
    if (steps.length === 0) {
      this.root.replaceChildren();
      return;
    }
    const { nodes, edges, layers, breadth } = arrange(steps);
    const at = placed(this.narrow.matches);
    const end = at({ layer: layers - 1, place: breadth - 1 });
    const size = { width: end.x + WIDTH + MARGIN, height: end.y + HEIGHT + MARGIN };
    this.#views = new Map(nodes.map((node) => [node.name, this.#node(node.name, at(node))]));
    const where = new Map(nodes.map((node) => [node.name, at(node)]));
    const lines = edges.map(({ from, to, via, kind }) => drawn('path', { class: 'edge', 'data-kind': kind, d: line([where.get(from), ...via.map(at), where.get(to)], this.narrow.matches !== (kind === 'undo')) }));
    this.root.replaceChildren(drawn(
      'svg', { class: 'graph', role: 'group', 'aria-label': 'The steps as a graph', viewBox: `0 0 ${size.width} ${size.height}`, width: size.width, height: size.height },
      lines, [...this.#views.values()].map((view) => view.root),
    ));
  }

  #node(name, { x, y }) {
    const sign = drawn('svg', { x: x + 12, y: y + 31, width: 15, height: 15, class: 'node-sign' });
    const state = drawn('text', { class: 'node-state', x: x + 32, y: y + 43 });
    const full = drawn('title', {});
    const done = drawn('rect', { class: 'node-done', x: x + 1, y: y + HEIGHT - 5, width: 0, height: 4 });
    const shown = name.length > NAME ? `${name.slice(0, NAME - 1)}…` : name;
    const root = drawn(
      'a', { class: 'node', href: `#${name}`, 'data-testid': 'node', 'data-name': name },
      full, drawn('rect', { class: 'node-box', x, y, width: WIDTH, height: HEIGHT, rx: 12 }), done,
      drawn('text', { class: 'node-name', x: x + 12, y: y + 23 }, shown), sign, state,
    );
    root.addEventListener('click', (event) => {
      event.preventDefault();
      this.onChoose(name);
    });
    return { root, update: (step) => updated(step, { root, sign, state, full, done }) };
  }
}

function updated(step, { root, sign, state, full, done }) {
  const { items } = step;
  const name = stateName(step.state);
  say(state, items ? `${name} ${items.completed}/${items.total}` : name);
  say(full, [step.name, items ? `${name}, ${items.completed} of ${items.total} done` : name, step.error].filter(Boolean).join(': '));
  done.setAttribute('width', items && items.total > 0 ? ((WIDTH - 2) * items.completed) / items.total : 0);
  if (root.dataset.state === step.state) return;
  root.dataset.state = step.state;
  sign.replaceChildren(...icon(STATE_ICONS[step.state] ?? 'dot').children);
}

/** From a layer and a place to a corner: from left to right, or from top to bottom. */
function placed(isNarrow) {
  return ({ layer, place }) => (isNarrow
    ? { x: MARGIN + place * (WIDTH + GAP.across), y: MARGIN + layer * (HEIGHT + GAP.along) }
    : { x: MARGIN + layer * (WIDTH + GAP.along), y: MARGIN + place * (HEIGHT + GAP.across) });
}

/** A soft line through corners of boxes: from the far side of each to the near side of the next. */
function line(corners, isDown) {
  const near = ({ x, y }) => (isDown ? [x + WIDTH / 2, y] : [x, y + HEIGHT / 2]);
  const far = ({ x, y }) => (isDown ? [x + WIDTH / 2, y + HEIGHT] : [x + WIDTH, y + HEIGHT / 2]);
  let path = `M${far(corners[0])}`;
  let from = far(corners[0]);
  corners.slice(1).forEach((corner, index) => {
    const to = near(corner);
    const [bendX, bendY] = [(to[0] - from[0]) / 2, (to[1] - from[1]) / 2];
    path += isDown ? `C${from[0]},${from[1] + bendY} ${to[0]},${to[1] - bendY} ${to}` : `C${from[0] + bendX},${from[1]} ${to[0] - bendX},${to[1]} ${to}`;
    if (index < corners.length - 2) path += `L${far(corner)}`;
    from = far(corner);
  });
  return path;
}

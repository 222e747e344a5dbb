// Owns: building DOM nodes. Text only ever becomes a text node, so nothing that a model or a user wrote can turn into markup.

const SVG = 'http://www.w3.org/2000/svg';
// Found from here: pages stand at different depths.
const ICONS = new URL('../icons.svg', import.meta.url).pathname;

/**
 * Builds one element. `attributes` are set by name; `on` holds listeners, `true` sets a bare attribute, and `false`, `null`
 * and `undefined` leave one out. Children are nodes or strings; `null` and `false` are skipped.
 */
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for a drawing. */
export function drawn(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'on') {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (value === true) {
      node.setAttribute(name, '');
    } else if (value !== false && value !== null && value !== undefined) {
      node.setAttribute(name, String(value));
    }
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** One icon of `icons.svg`, sized by the text around it and silent for a screen reader. */
export function icon(name) {
  return drawn('svg', { class: 'icon', 'aria-hidden': 'true' }, drawn('use', { href: `${ICONS}#${name}` }));
}

/** A button with an icon and, where `text` is given, a visible label; `label` is what a screen reader says. */
export function button({ label, iconName, text, testid, className = 'text-button', onClick, ...rest }) {
  return element(
    'button',
    { type: 'button', class: className, 'aria-label': label, title: text ? null : label, 'data-testid': testid, on: { click: onClick }, ...rest },
    iconName ? icon(iconName) : null,
    text ?? null,
  );
}

/** Runs `work` at most once per animation frame, however often the returned function is called. */
export function perFrame(work) {
  let scheduled = false;
  return () => {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => {
      scheduled = false;
      work();
    });
  };
}

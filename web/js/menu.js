// Owns: a small menu that opens below a button: arrow keys, Enter, Esc, and a click elsewhere closes it.

import { button, element } from './element.js';

/** Opens a menu at `anchor`. `items`: `{label, iconName, testid, danger, onChoose}`. */
export function openMenu(anchor, items) {
  const menu = element('div', { class: 'menu', role: 'menu', popover: 'auto', 'data-testid': 'menu' });
  menu.append(...items.map(({ label, iconName, testid, danger, onChoose }) => button({
    label, text: label, iconName, testid, className: danger ? 'danger' : '', role: 'menuitem',
    onClick: () => {
      menu.hidePopover();
      onChoose();
    },
  })));
  menu.addEventListener('keydown', (event) => move(menu, event));
  menu.addEventListener('toggle', (event) => {
    if (event.newState !== 'closed') return;
    anchor.setAttribute('aria-expanded', 'false');
    menu.remove();
  });
  document.body.append(menu);
  anchor.setAttribute('aria-expanded', 'true');
  menu.showPopover();
  place(menu, anchor.getBoundingClientRect());
  menu.firstChild.focus();
}

/** Whether a menu is open: Esc is its own then. */
export function menuIsOpen() {
  return document.querySelector('.menu:popover-open') !== null;
}

/** Below the button, or above it where there is no room; never beyond the window's edge. */
function place(menu, at) {
  const { width, height } = menu.getBoundingClientRect();
  const below = at.bottom + height + 8 <= innerHeight;
  menu.style.left = `${Math.max(8, Math.min(at.right - width, innerWidth - width - 8))}px`;
  menu.style.top = `${below ? at.bottom + 4 : Math.max(8, at.top - height - 4)}px`;
}

function move(menu, event) {
  const items = [...menu.children];
  const at = items.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  event.stopPropagation();
  items[(to + items.length) % items.length].focus();
}

// Owns: the sidebar's two shapes: a column that can be folded on a wide screen, a drawer over the page on a narrow one.

const narrow = matchMedia('(max-width: 799px)');

export class Sidebar {
  constructor({ shell, panel, main, toggle, close, scrim }) {
    Object.assign(this, { shell, panel, main, toggle, scrim });
    this.isOpen = !narrow.matches;
    toggle.addEventListener('click', () => this.#set(!this.isOpen));
    close.addEventListener('click', () => this.closeDrawer());
    scrim.addEventListener('click', () => this.closeDrawer());
    narrow.addEventListener('change', () => this.#set(!narrow.matches));
    this.#set(this.isOpen);
  }

  /** Closes the drawer of a narrow screen and gives the focus back; says whether it was open. */
  closeDrawer() {
    if (!narrow.matches || !this.isOpen) return false;
    this.#set(false);
    this.toggle.focus();
    return true;
  }

  #set(isOpen) {
    this.isOpen = isOpen;
    this.shell.dataset.sidebar = isOpen ? 'open' : 'closed';
    this.toggle.setAttribute('aria-expanded', String(isOpen));
    // Closed, it is off the screen: nothing in it may take the focus.
    this.panel.inert = !isOpen;
    const isDrawer = isOpen && narrow.matches;
    this.main.inert = isDrawer;
    this.scrim.hidden = !isDrawer;
    if (isDrawer) this.panel.querySelector('#new-chat').focus();
  }
}

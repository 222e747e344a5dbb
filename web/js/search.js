// Owns: the search box above the list: asks while one types, shows only the answer to what stands in the box, and gives the
// list back when it is empty.

const PAUSE_MS = 150;

/** The box `input` over `list`. `find(words, offset)` is a promise of a REST page; `onFault(error)`. */
export class Search {
  #timer = null;
  #words = '';

  constructor(input, list, { find, onFault }) {
    Object.assign(this, { input, list, find, onFault });
    input.addEventListener('input', () => this.#changed());
    input.addEventListener('keydown', (event) => {
      if (event.key === 'ArrowDown') {
        event.preventDefault();
        list.focusFirst();
      } else if (event.key === 'Escape' && input.value !== '') {
        // The box is cleared first; only then does Esc close the drawer or stop an answer.
        event.stopPropagation();
        event.preventDefault();
        input.value = '';
        this.#changed();
      }
    });
  }

  #changed() {
    this.#words = this.input.value.trim();
    clearTimeout(this.#timer);
    if (this.#words === '') this.list.showFound(null);
    else this.#timer = setTimeout(() => this.#ask(0), PAUSE_MS);
  }

  async #ask(offset) {
    const words = this.#words;
    let page;
    try {
      page = await this.find(words, offset);
    } catch (error) {
      if (words === this.#words) this.onFault(error);
      return;
    }
    // A slow answer to what has been typed over is not shown.
    if (words !== this.#words) return;
    const more = page.next_offset === null ? null : () => this.#ask(page.next_offset);
    if (offset === 0) this.list.showFound(page.data, more);
    else this.list.addFound(page.data, more);
  }
}

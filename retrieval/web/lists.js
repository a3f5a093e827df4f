/**
 * The reader's lists of cases.
 *
 * This browser stores names of lists and opaque ids, nothing of a case: what a list shows and exports is
 * requested from the service each time, which records it (`list_dialog.js`).
 */

import { announce, button } from "./dom.js";

/** The list that every reader starts with. */
export const FIRST = "My list";

class Lists extends EventTarget {
  #key = null;
  #stored = { current: FIRST, lists: { [FIRST]: [] } };

  constructor() {
    super();
    // Another tab of this browser changed them.
    window.addEventListener("storage", ({ key }) => key === this.#key && this.#read());
  }

  /** Read the stored lists of a reader. */
  open(owner) {
    this.#key = `similarity.lists.${owner}`;
    this.#read();
  }

  #read() {
    try {
      const stored = JSON.parse(localStorage.getItem(this.#key));
      if (stored?.lists?.[stored.current]) this.#stored = stored;
    } catch {
      // Written by another version or by hand: start anew.
    }
    this.dispatchEvent(new Event("change"));
  }

  get names() {
    return Object.keys(this.#stored.lists);
  }

  get current() {
    return this.#stored.current;
  }

  get cases() {
    return this.#stored.lists[this.current];
  }

  /** Put a case on the current list, or take it off. */
  toggle(id) {
    const { cases } = this;
    this.#store(this.current, cases.includes(id) ? cases.filter((other) => other !== id) : [...cases, id]);
  }

  /** Make a list the current one; a new name creates a list. */
  choose(name) {
    this.#store(name, this.#stored.lists[name] || []);
  }

  /** Delete the current list. */
  remove() {
    const { [this.current]: _, ...others } = this.#stored.lists;
    this.#stored.lists = others;
    const next = Object.keys(others)[0] || FIRST;
    this.#store(next, others[next] || []);
  }

  #store(name, cases) {
    this.#stored = { current: name, lists: { ...this.#stored.lists, [name]: cases } };
    localStorage.setItem(this.#key, JSON.stringify(this.#stored));
    this.dispatchEvent(new Event("change"));
  }
}

export const lists = new Lists();

/** A button that puts a case on the current list and takes it off again. */
export function listButton({ id }, name) {
  const label = () => `${lists.cases.includes(id) ? "Remove" : "Add"} ${name} ${lists.cases.includes(id) ? "from" : "to"} list`;
  return button(
    "List",
    (event) => {
      lists.toggle(id);
      announce(`${lists.cases.includes(id) ? "Added to" : "Removed from"} ${lists.current}.`);
      event.target.setAttribute("aria-label", label());
    },
    { "aria-pressed": String(lists.cases.includes(id)), "aria-label": label(), title: "Add to your list", data: { list: id } },
  );
}

/**
 * Lists of cases that a reader keeps.
 *
 * This browser remembers names of lists and opaque ids, nothing of a case: what a list shows and what it exports
 * is asked of the service each time, which records it (`listing.js`).
 */

import { announce, button } from "./dom.js";

/** The list that everyone begins with. */
export const FIRST = "My list";

class Lists extends EventTarget {
  #key = null;
  #kept = { current: FIRST, lists: { [FIRST]: [] } };

  constructor() {
    super();
    // Another tab of this browser changed them.
    window.addEventListener("storage", ({ key }) => key === this.#key && this.#read());
  }

  /** Read what this browser keeps for a person. */
  open(owner) {
    this.#key = `similarity.lists.${owner}`;
    this.#read();
  }

  #read() {
    try {
      const kept = JSON.parse(localStorage.getItem(this.#key));
      if (kept?.lists?.[kept.current]) this.#kept = kept;
    } catch {
      // Written by another version or by hand: begin anew.
    }
    this.dispatchEvent(new Event("change"));
  }

  get names() {
    return Object.keys(this.#kept.lists);
  }

  get current() {
    return this.#kept.current;
  }

  get cases() {
    return this.#kept.lists[this.current];
  }

  /** Put a case on the current list, or take it off. */
  toggle(id) {
    const { cases } = this;
    this.#keep(this.current, cases.includes(id) ? cases.filter((other) => other !== id) : [...cases, id]);
  }

  /** Make a list the current one; a new name begins a new list. */
  choose(name) {
    this.#keep(name, this.#kept.lists[name] || []);
  }

  /** Forget the current list. */
  remove() {
    const { [this.current]: _, ...left } = this.#kept.lists;
    this.#kept.lists = left;
    const next = Object.keys(left)[0] || FIRST;
    this.#keep(next, left[next] || []);
  }

  #keep(name, cases) {
    this.#kept = { current: name, lists: { ...this.#kept.lists, [name]: cases } };
    localStorage.setItem(this.#key, JSON.stringify(this.#kept));
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

/** The desk: what is asked, what was answered, which case lies open. Modules change it and hear of changes. */

export class Desk {
  /** The film asked with (`Film`), or null. */
  film = null;
  /** A box of that film to search for, in pixels of it as read: {left, top, right, bottom}, or null. */
  region = null;
  phrase = "";
  /** What comes back: cases, images or reports. */
  target = "cases";
  /** Filters that all hold: [{field, operator, value}]. */
  filters = [];
  /** Cases to be near to and far from: case id → what the reader knows it by. */
  likes = new Map();
  dislikes = new Map();
  /** How the search stands: {state: "none" | "loading" | "failed" | "done", problem?}. */
  search = { state: "none" };
  /** The answer, hits of all pages in a row, or null. */
  answer = null;
  /** The case that lies open, as the answer told of it, or null. */
  opened = null;
  /** Its film that is shown, or null. */
  openedFilm = null;
  /** How many studies the index holds, or null while nobody said. */
  studies = null;
  /** Finding → the finding above it. */
  parents = {};

  #hearing = new Map();

  /** Call `hear` whenever one of these fields was changed. */
  when(fields, hear) {
    for (const field of fields) this.#hearing.set(field, [...(this.#hearing.get(field) || []), hear]);
  }

  /** Change fields, then tell everyone who listens, each once. */
  change(fields) {
    Object.assign(this, fields);
    const hearing = new Set(Object.keys(fields).flatMap((field) => this.#hearing.get(field) || []));
    for (const hear of hearing) hear(this);
  }

  /** Whether there is anything to ask. */
  get asks() {
    return Boolean(this.film || this.phrase.trim() || this.likes.size);
  }
}

/** The workspace: the query, its answer, the open case. Modules change its fields and listen to changes. */

const PLAIN = /^[^\s(),=!<>"'\\]+$/;
const KEYWORDS = new Set(["and", "or", "not", "in"]);

export class Workspace {
  /** The query image (`Radiograph`), or null. */
  image = null;
  /** The query region, in pixels of the image as read: {left, top, right, bottom}, or null. */
  region = null;
  phrase = "";
  /** What to search for: cases, images or reports. */
  target = "cases";
  /** Filters that every hit satisfies: [{field, operator, value}]. */
  filters = [];
  /** Relevance feedback: case id → {name, image} of the cases marked relevant, and irrelevant. */
  relevant = new Map();
  irrelevant = new Map();
  /** The state of the search: {state: "none" | "loading" | "failed" | "done", problem?}. */
  search = { state: "none" };
  /** The answer, hits of all pages in a row, or null. */
  answer = null;
  /** The open case, as the answer has it, or null. */
  opened = null;
  /** Its image that is shown (`Radiograph`), or null. */
  openedImage = null;
  /** The number of studies in the index, or null while unknown. */
  studies = null;
  /** Finding → its parent in the vocabulary. */
  parents = {};

  #listeners = new Map();

  /** Call `listener` after each change of one of these fields. */
  when(fields, listener) {
    for (const field of fields) this.#listeners.set(field, [...(this.#listeners.get(field) || []), listener]);
  }

  /** Change fields, then call each listener once. */
  change(fields) {
    Object.assign(this, fields);
    const listeners = new Set(Object.keys(fields).flatMap((field) => this.#listeners.get(field) || []));
    for (const listener of listeners) listener(this);
  }

  /** Whether there is a query. */
  get hasQuery() {
    return Boolean(this.image || this.phrase.trim() || this.relevant.size);
  }
  /** The filters as the service's `where`, or null without filters. */
  get where() {
    return this.filters.length ? this.filters.map(condition).join(" and ") : null;
  }
}

function condition({ field, operator, value }) {
  if (operator !== "in") return `${field} ${operator} ${quoted(value)}`;
  const values = value.split(",").map((part) => part.trim()).filter(Boolean);
  return `${field} in (${values.map(quoted).join(", ")})`;
}

function quoted(value) {
  if (PLAIN.test(value) && !KEYWORDS.has(value.toLowerCase())) return value;
  return `"${value.replace(/["\\]/g, "\\$&")}"`;
}

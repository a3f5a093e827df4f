/** Building the page from elements and text nodes only: nothing that a report contains can run. */

/**
 * Make an element.
 *
 * `properties`: `class`; `on`, listeners by event; `data`, a dataset; anything else an attribute, left out where
 * it is null or false. `children`: nodes and text; null, undefined and false are skipped.
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.className = value;
    else if (name === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...shown(children));
  return element;
}

/** Replace the children of an element. */
export function fill(element, ...children) {
  element.replaceChildren(...shown(children));
}

/** A button; `properties` as for `el`. */
export function button(words, act, properties = {}) {
  return el("button", { type: "button", ...properties, on: { click: act } }, words);
}

/** Return the element of `index.html` with an id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Announce a change to screen readers. */
export function announce(words) {
  byId("announcements").textContent = words;
}

function shown(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

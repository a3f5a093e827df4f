/** Building the page. Everything is made of elements and text nodes: what a report holds can never run. */

/**
 * Make an element.
 *
 * `properties`: `class`; `on`, listeners by event; `data`, a dataset; anything else an attribute, left out where
 * it is null or false. `children`: nodes and text; null, undefined and false are passed over.
 */
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") made.className = value;
    else if (name === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    else if (name === "data") Object.assign(made.dataset, value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...shown(children));
  return made;
}

/** Put children in place of what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...shown(children));
}

/** A button; `properties` as for `el`. */
export function button(words, act, properties = {}) {
  return el("button", { type: "button", ...properties, on: { click: act } }, words);
}

/** The element of an id of `index.html`. */
export function byId(id) {
  return document.getElementById(id);
}

/** Say something to who cannot see what changed. */
export function announce(words) {
  byId("announcements").textContent = words;
}

function shown(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** The keyboard, told in a dialog. */

import { button, byId, el, fill } from "./dom.js";

const KEYS = [
  ["Tab, Shift Tab", "through everything, in the order query, cases, open case, findings, draft"],
  ["Arrow keys, on a case", "to the next case; Enter opens it beside your film"],
  ["Escape", "closes the open case, and goes back to it in the grid"],
  ["P, W, B, S, on a film", "the tools pan, window, box and spot"],
  ["Arrow keys, on a film", "move the film, its window, or the cross of box and spot; with Shift further"],
  ["Enter, on a film", "box: begins the box, then searches it; spot: shows its match in the open case"],
  ["+, −, 0, I, on a film", "zoom in, zoom out, whole film in full window, black for white"],
];

/** Wire the header's button to the dialog. */
export function showKeys() {
  const dialog = byId("keys");
  fill(
    dialog,
    el("h2", { id: "keys-heading" }, "Keyboard"),
    el("dl", { class: "keys" }, KEYS.map(([keys, words]) => [el("dt", {}, keys), el("dd", {}, words)])),
    el("p", { class: "row end" }, button("Close", () => dialog.close())),
  );
  byId("open-keys").addEventListener("click", () => dialog.showModal());
}

/** The query: a phrase, a film that is dropped, pasted or chosen, a box of it. */

import { announce, button, byId, el, fill } from "./dom.js";
import { Film } from "./film.js";
import { Pane } from "./pane.js";
import { search } from "./searching.js";
import { toolbar } from "./toolbar.js";

/** Wire the query's column to a desk, and return the pane of its film. */
export function showQuery(desk, view, onSpot) {
  const pane = new Pane(view, "Your film", {
    tools: ["pan", "window", "box", "spot"],
    onBox: (region) => {
      desk.change({ region });
      view.set({ tool: "pan" });
      search(desk);
    },
    onSpot,
  });
  listenToForm(desk);
  listenToFiles(desk);
  const place = byId("query-film");
  const drop = byId("drop");
  const bar = toolbar(view, "Tools for your film", ["pan", "window", "box", "spot"]);
  const line = el("div", { class: "film-line" });
  desk.when(["film"], () => {
    fill(place, desk.film ? [line, pane.element, bar] : drop);
    pane.show(desk.film).catch(() => {});
  });
  desk.when(["film", "region"], () => {
    showLine(desk, line);
    pane.lay("region", desk.region ? { boxes: [{ box: desk.region, words: "searched" }] } : {});
  });
  return pane;
}

/** Ask with a film: it takes the place of the one before, and is searched with at once. */
export function askWith(desk, film) {
  desk.change({ film, region: null });
  search(desk);
}

function listenToForm(desk) {
  const phrase = byId("phrase");
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    desk.change({ phrase: phrase.value });
    if (desk.asks) search(desk);
    else announce("Write a phrase or choose a film first.");
  });
  byId("target").addEventListener("change", (event) => {
    desk.change({ target: event.target.value });
    if (desk.asks) search(desk);
  });
}

function listenToFiles(desk) {
  const take = (file) => file && askWith(desk, new Film({ file }));
  const input = byId("file");
  input.addEventListener("change", () => {
    take(input.files[0]);
    input.value = "";
  });
  const column = byId("query");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    column.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) column.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    column.classList.remove("dropping");
    take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
}

function showLine(desk, line) {
  if (!desk.film) return;
  const whole = desk.region && button("Whole film", () => {
    desk.change({ region: null });
    search(desk);
  }, { title: "Search for the whole film again, not for the box alone" });
  fill(
    line,
    el("span", { class: "film-name" }, desk.film.name ? `Your film: ${desk.film.name}` : "Your film"),
    whole,
    button("Remove film", () => {
      desk.change({ film: null, region: null });
      search(desk);
      byId("phrase").focus();
    }),
  );
}

/** Where a phrase is in a film: saliency maps and masks, with the phrase that each answers. */

import { postJson } from "./api.js";
import { announce, button, el, fill } from "./dom.js";
import { exportButtons } from "./exporting.js";
import { heatOf, outlineOf } from "./overlay.js";

const COLOURS = [
  [255, 190, 92],
  [98, 205, 255],
  [216, 160, 255],
  [150, 228, 128],
];

/**
 * Where phrases are in the films that lie here.
 *
 * `panes`: {query, opened}, the pane of each film. Returns `locate(phrase)`, which asks of the query's film.
 */
export function showLocating(desk, view, section, panes) {
  const found = { query: [], opened: [] };
  const phrase = el("input", { id: "where-phrase", type: "text", maxlength: 2000, autocomplete: "off", placeholder: "pleural effusion" });
  const which = el("select", { "aria-label": "Film to look in" }, el("option", { value: "query" }, "your film"), el("option", { value: "opened" }, "open case"));
  const problem = el("p", { class: "problem", role: "alert" });
  const rows = el("ul", { class: "located", "aria-label": "What was looked for" });
  const strength = opacity(view);
  const films = () => ({ query: desk.film, opened: desk.openedFilm });

  async function look(place, words) {
    const film = films()[place];
    const asked = { words, colour: COLOURS[found[place].length % COLOURS.length], told: null, map: true, outline: true };
    problem.textContent = "";
    for (const other of found[place]) other.map = false;
    found[place].push(asked);
    show();
    try {
      const { localizations } = await postJson("v1/localize", film.body({ phrases: [words] }));
      const [told] = localizations;
      Object.assign(asked, { told, heat: await heatOf(told.heat) });
      asked.edge = told.mask && outlineOf(told.mask, asked.colour);
      announce(`${words}: ${told.words || told.reason}`);
    } catch (error) {
      found[place] = found[place].filter((other) => other !== asked);
      if (film === films()[place]) problem.textContent = error.message;
    }
    show();
  }

  function show() {
    const here = films();
    section.hidden = !here.query && !here.opened;
    which.hidden = !here.query || !here.opened;
    if (!here[which.value]) which.value = here.query ? "query" : "opened";
    const all = ["query", "opened"].flatMap((place) => found[place].map((asked) => row(place, asked)));
    fill(rows, all);
    strength.hidden = !all.length;
    for (const place of ["query", "opened"]) lay(panes[place], found[place]);
  }

  function row(place, asked) {
    const { told } = asked;
    const tick = (words, field, enabled) => {
      const box = el("input", { type: "checkbox", checked: enabled && asked[field], disabled: !enabled });
      box.addEventListener("change", () => {
        if (field === "map") for (const other of found[place]) other.map = false;
        asked[field] = box.checked;
        show();
      });
      return el("label", {}, box, words);
    };
    const mark = el("span", { class: "mark", "aria-hidden": "true" });
    mark.style.background = `rgb(${asked.colour.join(" ")})`;
    return el(
      "li",
      { "aria-busy": String(!told) },
      el("p", { class: "located-line" }, mark, el("b", {}, asked.words), place === "opened" ? el("span", { class: "quiet" }, "open case") : null),
      told ? meaning(told) : el("p", { class: "quiet" }, "Looking …"),
      el(
        "p",
        { class: "row" },
        tick("Map", "map", Boolean(told)),
        tick("Outline", "outline", Boolean(told?.mask)),
        button("Remove", () => {
          found[place] = found[place].filter((other) => other !== asked);
          show();
        }, { "aria-label": `Remove ${asked.words}` }),
      ),
      told && exportButtons(films()[place], asked),
    );
  }

  const form = el("form", { class: "row" }, phrase, which, el("button", { type: "submit" }, "Show"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const words = phrase.value.trim() || desk.phrase.trim();
    if (words) look(which.value, words);
  });
  desk.when(["film"], () => ((found.query = []), show()));
  desk.when(["openedFilm"], () => ((found.opened = []), show()));
  desk.when(["phrase"], () => (phrase.value ||= desk.phrase));
  fill(section, el("h2", { id: "where-heading" }, el("label", { for: "where-phrase" }, "Where is it?")), form, problem, rows, strength);
  show();
  return (words) => look("query", words);
}

/** Lay maps and outlines over a pane, and say under it which phrase they answer. */
function lay(pane, found) {
  const map = found.find(({ map, heat }) => map && heat);
  const outlined = found.filter(({ outline, edge }) => outline && edge);
  const words = [
    map && `Map of “${map.words}”, by ${map.told.method}${map.told.mask ? "" : ": it does not single out the phrase"}`,
    outlined.length && `Outline of ${outlined.map(({ words }) => `“${words}”`).join(", ")}`,
  ];
  pane.lay("located", { heat: map?.heat ?? null, outlines: outlined.map(({ edge }) => edge), words: words.filter(Boolean).join(" · ") });
}

/** What was found in words, and how far it answers to this phrase rather than to any. */
function meaning({ words, reason, specificity, threshold, refined_by: refined }) {
  const measure =
    `Specificity ${specificity.toFixed(2)}: how much more the map answers to this phrase than to others, 0 to 1. ` +
    `An outline is drawn from ${threshold.toFixed(2)} on.${refined ? ` Outline refined by ${refined}.` : ""}`;
  return [words && el("p", {}, words), reason && el("p", { class: "refused" }, reason), el("p", { class: "quiet note" }, measure)];
}

function opacity(view) {
  const input = el("input", { type: "range", min: 0, max: 1, step: 0.05, value: view.opacity });
  input.addEventListener("input", () => view.set({ opacity: Number(input.value) }));
  return el("label", { class: "opacity", hidden: true }, "Opacity of the map", input);
}

/** Localization of phrases in an image: saliency maps and masks, each with its phrase. */

import { postJson } from "./api.js";
import { announce, button, el, fill } from "./dom.js";
import { exportButtons } from "./exports.js";
import { heatOf, outlineOf } from "./overlay.js";

const COLOURS = [
  [255, 190, 92],
  [98, 205, 255],
  [216, 160, 255],
  [150, 228, 128],
];

/**
 * Show the localizations of a workspace in a section and on the panes {query, opened}. Returns
 * `localize(phrase)`, which localizes in the query image.
 */
export function showLocalization(workspace, view, section, panes) {
  const entries = { query: [], opened: [] };
  const phrase = el("input", { id: "localization-phrase", type: "text", maxlength: 2000, autocomplete: "off", placeholder: "pleural effusion" });
  const which = el("select", { "aria-label": "Image to localize in" }, el("option", { value: "query" }, "your image"), el("option", { value: "opened" }, "open case"));
  const problem = el("p", { class: "problem", role: "alert" });
  const rows = el("ul", { class: "localizations", "aria-label": "Localizations" });
  const strength = opacity(view);
  const images = () => ({ query: workspace.image, opened: workspace.openedImage });

  async function localize(side, phrase) {
    const image = images()[side];
    const entry = { phrase, colour: COLOURS[entries[side].length % COLOURS.length], result: null, map: true, outline: true };
    problem.textContent = "";
    for (const other of entries[side]) other.map = false;
    entries[side].push(entry);
    show();
    try {
      const { localizations } = await postJson("v1/localize", image.body({ phrases: [phrase] }));
      const [result] = localizations;
      Object.assign(entry, { result, heat: await heatOf(result.heat) });
      entry.edge = result.mask && outlineOf(result.mask, entry.colour);
      announce(`${phrase}: ${result.words || result.reason}`);
    } catch (error) {
      entries[side] = entries[side].filter((other) => other !== entry);
      if (image === images()[side]) problem.textContent = error.message;
    }
    show();
  }

  function show() {
    const here = images();
    section.hidden = !here.query && !here.opened;
    which.hidden = !here.query || !here.opened;
    if (!here[which.value]) which.value = here.query ? "query" : "opened";
    const all = ["query", "opened"].flatMap((side) => entries[side].map((entry) => row(side, entry)));
    fill(rows, all);
    strength.hidden = !all.length;
    for (const side of ["query", "opened"]) lay(panes[side], entries[side]);
  }

  function row(side, entry) {
    const { result } = entry;
    const tick = (words, field, enabled) => {
      const box = el("input", { type: "checkbox", checked: enabled && entry[field], disabled: !enabled });
      box.addEventListener("change", () => {
        if (field === "map") for (const other of entries[side]) other.map = false;
        entry[field] = box.checked;
        show();
      });
      return el("label", {}, box, words);
    };
    const mark = el("span", { class: "mark", "aria-hidden": "true" });
    mark.style.background = `rgb(${entry.colour.join(" ")})`;
    return el(
      "li",
      { "aria-busy": String(!result) },
      el("p", { class: "localization-line" }, mark, el("b", {}, entry.phrase), side === "opened" ? el("span", { class: "quiet" }, "open case") : null),
      result ? resultText(result) : el("p", { class: "quiet" }, "Localizing …"),
      el(
        "p",
        { class: "row" },
        tick("Map", "map", Boolean(result)),
        tick("Outline", "outline", Boolean(result?.mask)),
        button("Remove", () => {
          entries[side] = entries[side].filter((other) => other !== entry);
          show();
        }, { "aria-label": `Remove ${entry.phrase}` }),
      ),
      result && exportButtons(images()[side], entry),
    );
  }

  const form = el("form", { class: "row" }, phrase, which, el("button", { type: "submit" }, "Localize"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = phrase.value.trim() || workspace.phrase.trim();
    if (text) localize(which.value, text);
  });
  workspace.when(["image"], () => ((entries.query = []), show()));
  workspace.when(["openedImage"], () => ((entries.opened = []), show()));
  workspace.when(["phrase"], () => (phrase.value ||= workspace.phrase));
  fill(section, el("h2", { id: "localization-heading" }, el("label", { for: "localization-phrase" }, "Localize a finding")), form, problem, rows, strength);
  show();
  return (text) => localize("query", text);
}

/** Lay the map and the outlines over a pane, with their phrases in the caption. */
function lay(pane, entries) {
  const map = entries.find(({ map, heat }) => map && heat);
  const outlined = entries.filter(({ outline, edge }) => outline && edge);
  const words = [
    map && `Map of “${map.phrase}”, by ${map.result.method}${map.result.mask ? "" : ": not specific to the phrase"}`,
    outlined.length && `Outline of ${outlined.map(({ phrase }) => `“${phrase}”`).join(", ")}`,
  ];
  pane.lay("localization", { heat: map?.heat ?? null, outlines: outlined.map(({ edge }) => edge), words: words.filter(Boolean).join(" · ") });
}

/** The result in words, and its specificity. */
function resultText({ words, reason, specificity, threshold, refined_by: refined }) {
  const measure =
    `Specificity ${specificity.toFixed(2)}: how much more strongly the map responds to this phrase than to others, 0 to 1. ` +
    `Threshold of an outline: ${threshold.toFixed(2)}.${refined ? ` Outline refined by ${refined}.` : ""}`;
  return [words && el("p", {}, words), reason && el("p", { class: "refused" }, reason), el("p", { class: "quiet note" }, measure)];
}

function opacity(view) {
  const input = el("input", { type: "range", min: 0, max: 1, step: 0.05, value: view.opacity });
  input.addEventListener("input", () => view.set({ opacity: Number(input.value) }));
  return el("label", { class: "opacity", hidden: true }, "Opacity of the map", input);
}

/** The open case beside the query: its film, what it shows, its report, and last what it turned out to be. */

import { getJson } from "./api.js";
import { askWith } from "./asking.js";
import { reasons } from "./card.js";
import { button, byId, el, fill } from "./dom.js";
import { exampleButtons } from "./examples.js";
import { Film } from "./film.js";
import { findingChips } from "./findings.js";
import { person } from "./labels.js";
import { listButton } from "./lists.js";
import { Pane } from "./pane.js";
import { toolbar } from "./toolbar.js";

/** Show the case that lies open on a desk, and return the pane of its film; `showPairs` marks what is alike. */
export function showCompare(desk, view, showPairs) {
  const section = byId("compare");
  const pane = new Pane(view, "Film of the open case");
  const bar = toolbar(view, "Tools for the film of the open case", ["pan", "window"]);
  desk.when(["opened"], () => open(desk, section, pane, bar, showPairs));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented || !desk.opened || document.querySelector("dialog[open]")) return;
    close(desk);
  });
  return pane;
}

/** The film of a case that is told by an answer: of the picture that speaks for it, or of `image`. */
export function filmOf(hit, image = hit.image) {
  return image ? new Film({ name: nameOf(hit), image, caseId: hit.id }) : null;
}

function nameOf(hit) {
  return hit.rank ? `case ${hit.rank}` : "case from the list";
}

async function open(desk, section, pane, bar, showPairs) {
  const hit = desk.opened;
  byId("desk").dataset.layout = hit ? "compare" : "search";
  section.hidden = !hit;
  if (!hit) {
    desk.change({ openedFilm: null });
    pane.show(null);
    return;
  }
  const place = el("div", { class: "case-film" });
  const body = el("div", { class: "case-body", "aria-busy": "true" }, el("p", { class: "quiet" }, "Loading the case …"));
  const heading = el("h2", { id: "compare-heading", tabindex: -1 }, title(hit));
  fill(section, headLine(desk, hit, heading), place, body);
  const showFilm = (image) => {
    const film = filmOf(hit, image);
    fill(place, film ? [pane.element, bar] : el("p", { class: "quiet" }, "This case has no film: its report is below."));
    desk.change({ openedFilm: film });
    pane.show(film).catch(() => {});
    const alike = hit.evidence.find(({ kind, image: of }) => kind === "region" && of === image);
    if (alike) pane.lay("region", { boxes: [{ box: alike.box, words: "like your box" }] });
  };
  showFilm(hit.image);
  heading.focus();
  try {
    const found = await getJson(`v1/cases/${hit.id}`);
    if (desk.opened !== hit) return;
    if (!hit.image && found.images.length) showFilm(found.images[0].id);
    fill(body, details(desk, hit, found, showFilm, showPairs));
  } catch (problem) {
    if (desk.opened === hit) fill(body, el("p", { class: "problem", role: "alert" }, problem.message));
  } finally {
    body.removeAttribute("aria-busy");
  }
}

function close(desk) {
  const id = desk.opened.id;
  desk.change({ opened: null });
  document.querySelector(`#cases [data-case="${id}"] .open`)?.focus();
}

function title(hit) {
  return [hit.rank ? `Case ${hit.rank}` : "Case", person(hit), hit.attributes.date].filter(Boolean).join(" · ");
}

function headLine(desk, hit, heading) {
  const hits = desk.answer?.hits || [];
  const at = hits.findIndex(({ id }) => id === hit.id);
  const go = (words, label, to) =>
    button(words, () => desk.change({ opened: hits[to] }), { "aria-label": label, title: label, disabled: at < 0 || !hits[to] });
  return el(
    "div",
    { class: "heading" },
    heading,
    el(
      "span",
      { class: "row" },
      go("‹", "Previous case", at - 1),
      go("›", "Next case", at + 1),
      button("Close", () => close(desk), { title: "Back to the grid (Escape)" }),
    ),
  );
}

function details(desk, hit, found, showFilm, showPairs) {
  const name = nameOf(hit);
  return [
    el(
      "div",
      { class: "case-actions" },
      hit.image && desk.film && button("What is alike?", showPairs, { title: "Mark the pairs of places that are most alike in the two films" }),
      hit.image && button("Ask with this case", () => askWith(desk, filmOf(hit)), { title: "Put it in the place of your film, and search for what is like it" }),
      exampleButtons(desk, hit, name),
      listButton(hit, name),
      found.viewer && el("a", { class: "button", href: found.viewer, target: "_blank", rel: "noopener noreferrer" }, "Open in viewer"),
    ),
    found.images.length > 1 &&
      el(
        "p",
        { class: "row", role: "group", "aria-label": "Films of this case" },
        found.images.map(({ id, view }, at) => button(view ? view.toUpperCase() : `Film ${at + 1}`, () => showFilm(id))),
      ),
    el("h3", {}, "Findings"),
    findingChips(found, desk.parents),
    absent(found.findings),
    hit.evidence.length > 0 && [el("h3", {}, "Why it is here"), reasons(hit)],
    el("h3", {}, "Report"),
    report(found),
    found.diagnosis && [el("h3", {}, "What it turned out to be"), el("p", { class: "diagnosis" }, found.diagnosis)],
    el("p", { class: "quiet note" }, `${found.study_id} · ${found.source}`),
  ];
}

function absent({ absent: names }) {
  return names.length > 0 && el("p", { class: "quiet" }, `Denied: ${names.map((name) => name.replaceAll("_", " ")).join(", ")}`);
}

function report(found) {
  if (!found.report?.length) return el("p", { class: "quiet" }, "There is no report.");
  return el("div", { class: "report" }, found.report.map(({ name, text }) => [name !== "body" && el("h4", {}, name), el("p", {}, text)]));
}

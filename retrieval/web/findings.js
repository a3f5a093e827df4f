/** Findings: as chips of one case, and as what the cases of an answer say of each. */

import { button, el, fill } from "./dom.js";
import { counted, exact, spoken, unread } from "./labels.js";

const MOST_ROWS = 12;

/** What is present and what is doubtful in a case, as chips, and a note where its report could not be read. */
export function findingChips(shown, parents) {
  const { findings } = shown;
  const note = unread(shown);
  const present = exact(findings.present, parents);
  const doubtful = exact(findings.uncertain, parents).filter((name) => !findings.present.includes(name));
  if (!present.length && !doubtful.length) return el("p", { class: "quiet" }, note || "No finding is stated.");
  const chips = el(
    "ul",
    { class: "chips", "aria-label": "Findings" },
    present.map((name) => el("li", { class: "chip present" }, spoken(name))),
    doubtful.map((name) => el("li", { class: "chip doubtful", title: "Uncertain" }, `${spoken(name)}?`)),
  );
  return note ? [chips, el("p", { class: "quiet" }, note)] : chips;
}

/** Show in a section what the cases of the desk's answer say; `locate` is asked to show a finding in the film. */
export function showFindings(desk, section, locate) {
  desk.when(["answer", "film", "search"], () => {
    section.hidden = !desk.answer?.hits.length;
    if (section.hidden) return;
    const { hits } = desk.answer;
    const rows = tally(hits, desk.parents);
    const note = `Of the ${counted(hits.length, "case")} shown, how many say so. A count among these cases, not a probability.`;
    fill(
      section,
      el("h2", { id: "findings-heading" }, "Findings among these cases"),
      rows.length ? el("ul", { class: "tally" }, rows.map((row) => told(row, hits.length, desk.film && locate))) : el("p", {}, "None of them states a finding."),
      el("p", { class: "quiet note" }, note),
    );
  });
}

function tally(hits, parents) {
  const counts = new Map();
  const add = (name, side) => {
    if (!counts.has(name)) counts.set(name, { name, present: 0, uncertain: 0, absent: 0 });
    counts.get(name)[side] += 1;
  };
  for (const { findings } of hits) {
    for (const name of exact(findings.present, parents)) add(name, "present");
    for (const name of findings.uncertain) add(name, "uncertain");
    for (const name of findings.absent) add(name, "absent");
  }
  return [...counts.values()]
    .filter(({ present, uncertain }) => present || uncertain)
    .sort((a, b) => b.present - a.present || b.uncertain - a.uncertain)
    .slice(0, MOST_ROWS);
}

function told({ name, present, uncertain, absent }, cases, locate) {
  const words = [present && `${present} present`, uncertain && `${uncertain} uncertain`, absent && `${absent} absent`].filter(Boolean).join(", ");
  const part = (side, number) => {
    const bar = el("span", { class: side });
    bar.style.width = `${(100 * number) / cases}%`;
    return bar;
  };
  return el(
    "li",
    {},
    el("span", { class: "name" }, spoken(name)),
    el("span", { class: "number" }, words),
    el("span", { class: "bar", "aria-hidden": "true" }, part("present", present), part("uncertain", uncertain), part("absent", absent)),
    locate &&
      name !== "no_finding" &&
      button("Where?", () => locate(spoken(name)), { "aria-label": `Where is ${spoken(name)} in your film?`, title: "Show it in your film" }),
  );
}

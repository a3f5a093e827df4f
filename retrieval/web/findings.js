/** Findings: as chips of one case, and counted over the cases of an answer. */

import { button, el, fill } from "./dom.js";
import { counted, mostSpecific, spoken, unreadNote } from "./labels.js";

const MOST_ROWS = 12;

/** Chips of the present and uncertain findings of a case, and a note where they could not be extracted. */
export function findingChips(shown, parents) {
  const { findings } = shown;
  const note = unreadNote(shown);
  const present = mostSpecific(findings.present, parents);
  const uncertain = mostSpecific(findings.uncertain, parents).filter((name) => !findings.present.includes(name));
  if (!present.length && !uncertain.length) return el("p", { class: "quiet" }, note || "No finding is stated.");
  const chips = el(
    "ul",
    { class: "chips", "aria-label": "Findings" },
    present.map((name) => el("li", { class: "chip present" }, spoken(name))),
    uncertain.map((name) => el("li", { class: "chip uncertain", title: "Uncertain" }, `${spoken(name)}?`)),
  );
  return note ? [chips, el("p", { class: "quiet" }, note)] : chips;
}

/** Count the findings of a workspace's answer in a section; `localize` shows a finding in the query image. */
export function showFindings(workspace, section, localize) {
  workspace.when(["answer", "image", "search"], () => {
    section.hidden = !workspace.answer?.hits.length;
    if (section.hidden) return;
    const { hits } = workspace.answer;
    const rows = tally(hits, workspace.parents);
    const note = `How many of the ${counted(hits.length, "case")} shown state each finding. A count among these cases, not a probability.`;
    fill(
      section,
      el("h2", { id: "findings-heading" }, "Findings among these cases"),
      rows.length ? el("ul", { class: "tally" }, rows.map((row) => findingRow(row, hits.length, workspace.image && localize))) : el("p", {}, "No case states a finding."),
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
    for (const name of mostSpecific(findings.present, parents)) add(name, "present");
    for (const name of findings.uncertain) add(name, "uncertain");
    for (const name of findings.absent) add(name, "absent");
  }
  return [...counts.values()]
    .filter(({ present, uncertain }) => present || uncertain)
    .sort((a, b) => b.present - a.present || b.uncertain - a.uncertain)
    .slice(0, MOST_ROWS);
}

function findingRow({ name, present, uncertain, absent }, cases, localize) {
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
    localize &&
      name !== "no_finding" &&
      button("Localize", () => localize(spoken(name)), { "aria-label": `Localize ${spoken(name)} in your image`, title: "Show where it is in your image" }),
  );
}

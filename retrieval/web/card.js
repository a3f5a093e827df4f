/** One case of the grid: its picture, what it shows, why it is here, and last what it turned out to be. */

import { button, el } from "./dom.js";
import { exampleButtons } from "./examples.js";
import { findingChips } from "./findings.js";
import { evidenceName, person } from "./labels.js";
import { listButton } from "./lists.js";

const EVIDENCE_SHOWN = 3;

/** A card of a hit. */
export function card(desk, hit) {
  const name = `case ${hit.rank}`;
  return el(
    "article",
    { class: "card", "aria-label": `Case ${hit.rank}`, data: { case: hit.id } },
    el("p", { class: "card-line" }, el("b", {}, hit.rank), el("span", {}, person(hit)), el("span", { class: "date" }, hit.attributes.date)),
    openButton(desk, hit, `Compare ${name}`),
    findingChips(hit, desk.parents),
    reasons(hit),
    hit.diagnosis && el("p", { class: "diagnosis" }, el("span", { class: "quiet" }, "Turned out: "), hit.diagnosis),
    el("div", { class: "card-actions" }, exampleButtons(desk, hit, name), listButton(hit, name)),
  );
}

/** A smaller card, of an earlier study of the same patient. */
export function ownCard(desk, study) {
  const when = study.attributes.date || "undated";
  return el(
    "article",
    { class: "card own", "aria-label": `Own study, ${when}` },
    openButton(desk, { ...study, image: study.images[0]?.id ?? null }, `Open the study of ${when}`),
    el("p", { class: "card-line" }, el("b", {}, when)),
    findingChips(study, desk.parents),
  );
}

/** Why a case is here: the best item of each kind, as the service told them. */
export function reasons(hit) {
  const best = new Map();
  for (const entry of hit.evidence) if (!best.has(entry.kind)) best.set(entry.kind, entry);
  const duplicates = hit.evidence.filter(({ kind }) => kind === "duplicate").length;
  best.delete("duplicate");
  const saying = [...best.values()].filter(({ kind, agree, conflict }) => kind !== "findings" || agree?.length || conflict?.length);
  const lines = saying.slice(0, EVIDENCE_SHOWN).map((entry) => el("li", {}, said(entry)));
  if (duplicates) lines.push(el("li", {}, `stands for ${duplicates} more that are the same`));
  return el("ul", { class: "reasons", "aria-label": "Why it is here" }, lines);
}

function said({ kind, score, text, agree, conflict }) {
  if (kind === "findings") {
    return [
      agree?.length ? el("span", { class: "agree" }, `agrees: ${agree.join(", ")} `) : null,
      conflict?.length ? el("span", { class: "conflict" }, `conflicts: ${conflict.join(", ")}`) : null,
    ];
  }
  const number = el("b", { title: kind === "terms" ? "BM25 of the report's words" : "cosine" }, score.toFixed(2).replace("-", "−"));
  return [`${evidenceName(kind)} `, number, text && kind !== "report" ? el("q", {}, text) : null];
}

function openButton(desk, hit, label) {
  const picture = hit.image
    ? el("img", {
        src: `v1/thumbnails/${hit.image}`,
        alt: `Film of ${label.replace(/^\S+ /, "")}`,
        loading: "lazy",
        on: { error: (event) => event.target.replaceWith(el("span", { class: "no-film" }, "This picture is gone.")) },
      })
    : el("span", { class: "no-film" }, hit.text || "No picture and no report.");
  return button(picture, () => desk.change({ opened: hit }), { class: "open", "aria-label": label, title: label });
}

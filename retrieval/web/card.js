/** A card of the grid: image, findings, evidence, and last the diagnosis of one case. */

import { button, el } from "./dom.js";
import { feedbackButtons } from "./feedback.js";
import { findingChips } from "./findings.js";
import { demographics, evidenceName } from "./labels.js";
import { listButton } from "./lists.js";

const EVIDENCE_SHOWN = 3;

/** A card of a hit. */
export function card(workspace, hit) {
  const name = `case ${hit.rank}`;
  return el(
    "article",
    { class: "card", "aria-label": `Case ${hit.rank}`, data: { case: hit.id } },
    el("p", { class: "card-line" }, el("b", {}, hit.rank), el("span", {}, demographics(hit)), el("span", { class: "date" }, hit.attributes.date)),
    openButton(workspace, hit, `Compare ${name}`),
    findingChips(hit, workspace.parents),
    evidenceList(hit),
    hit.diagnosis && el("p", { class: "diagnosis" }, el("span", { class: "quiet" }, "Diagnosis: "), hit.diagnosis),
    el("div", { class: "card-actions" }, feedbackButtons(workspace, hit, name), listButton(hit, name)),
  );
}

/** A smaller card, of an earlier study of the same patient. */
export function earlierCard(workspace, study) {
  const when = study.attributes.date || "undated";
  return el(
    "article",
    { class: "card earlier", "aria-label": `Earlier study, ${when}` },
    openButton(workspace, { ...study, image: study.images[0]?.id ?? null }, `Open the study of ${when}`),
    el("p", { class: "card-line" }, el("b", {}, when)),
    findingChips(study, workspace.parents),
  );
}

/** The evidence for a hit: the best item of each kind. */
export function evidenceList(hit) {
  const best = new Map();
  for (const entry of hit.evidence) if (!best.has(entry.kind)) best.set(entry.kind, entry);
  const duplicates = hit.evidence.filter(({ kind }) => kind === "duplicate").length;
  best.delete("duplicate");
  const shown = [...best.values()].filter(({ kind, agree, conflict }) => kind !== "findings" || agree?.length || conflict?.length);
  const lines = shown.slice(0, EVIDENCE_SHOWN).map((entry) => el("li", {}, evidenceText(entry)));
  if (duplicates) lines.push(el("li", {}, `${duplicates} near-${duplicates === 1 ? "duplicate" : "duplicates"} not shown`));
  return el("ul", { class: "evidence-list", "aria-label": "Evidence" }, lines);
}

function evidenceText({ kind, score, text, agree, conflict }) {
  if (kind === "findings") {
    return [
      agree?.length ? el("span", { class: "agree" }, `agrees: ${agree.join(", ")} `) : null,
      conflict?.length ? el("span", { class: "conflict" }, `conflicts: ${conflict.join(", ")}`) : null,
    ];
  }
  const number = el("b", { title: kind === "terms" ? "BM25 of the report's words" : "cosine similarity" }, score.toFixed(2).replace("-", "−"));
  return [`${evidenceName(kind)} `, number, text && kind !== "report" ? el("q", {}, text) : null];
}

function openButton(workspace, hit, label) {
  const content = hit.image
    ? el("img", {
        src: `v1/thumbnails/${hit.image}`,
        alt: `Image of ${label.replace(/^\S+ /, "")}`,
        loading: "lazy",
        on: { error: (event) => event.target.replaceWith(el("span", { class: "no-image" }, "This image is missing.")) },
      })
    : el("span", { class: "no-image" }, hit.text || "No image and no report.");
  return button(content, () => workspace.change({ opened: hit }), { class: "open", "aria-label": label, title: label });
}

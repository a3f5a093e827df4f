/** The open case beside the query: image, findings, evidence, report, and last the diagnosis. */

import { getJson } from "./api.js";
import { evidenceList } from "./card.js";
import { button, byId, el, fill } from "./dom.js";
import { feedbackButtons } from "./feedback.js";
import { findingChips } from "./findings.js";
import { demographics } from "./labels.js";
import { listButton } from "./lists.js";
import { Pane } from "./pane.js";
import { searchWith } from "./query.js";
import { Radiograph } from "./radiograph.js";
import { toolbar } from "./toolbar.js";

/** Show the open case of a workspace and return the pane of its image; `showPairs` marks the strongest correspondences. */
export function showComparison(workspace, view, showPairs) {
  const section = byId("compare");
  const pane = new Pane(view, "Image of the open case");
  const bar = toolbar(view, "Tools for the image of the open case", ["pan", "window"]);
  workspace.when(["opened"], () => open(workspace, section, pane, bar, showPairs));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented || !workspace.opened || document.querySelector("dialog[open]")) return;
    close(workspace);
  });
  return pane;
}

/** An image of a hit: the one of the best evidence, or that of an opaque `id`; null where there is none. */
export function imageOf(hit, id = hit.image) {
  return id ? new Radiograph({ name: nameOf(hit), id, caseId: hit.id }) : null;
}

function nameOf(hit) {
  return hit.rank ? `case ${hit.rank}` : "case from the list";
}

async function open(workspace, section, pane, bar, showPairs) {
  const hit = workspace.opened;
  byId("workspace").dataset.layout = hit ? "compare" : "search";
  section.hidden = !hit;
  if (!hit) {
    workspace.change({ openedImage: null });
    pane.show(null);
    return;
  }
  const imageArea = el("div", { class: "case-image" });
  const body = el("div", { class: "case-body", "aria-busy": "true" }, el("p", { class: "quiet" }, "Loading the case …"));
  const heading = el("h2", { id: "compare-heading", tabindex: -1 }, title(hit));
  fill(section, headLine(workspace, hit, heading), imageArea, body);
  const showImage = (id) => {
    const image = imageOf(hit, id);
    fill(imageArea, image ? [pane.element, bar] : el("p", { class: "quiet" }, "This case has no image. Its report is below."));
    workspace.change({ openedImage: image });
    pane.show(image).catch(() => {});
    const region = hit.evidence.find((entry) => entry.kind === "region" && entry.image === id);
    if (region) pane.lay("region", { boxes: [{ box: region.box, words: "similar region" }] });
  };
  showImage(hit.image);
  heading.focus();
  try {
    const found = await getJson(`v1/cases/${hit.id}`);
    if (workspace.opened !== hit) return;
    if (!hit.image && found.images.length) showImage(found.images[0].id);
    fill(body, details(workspace, hit, found, showImage, showPairs));
  } catch (problem) {
    if (workspace.opened === hit) fill(body, el("p", { class: "problem", role: "alert" }, problem.message));
  } finally {
    body.removeAttribute("aria-busy");
  }
}

function close(workspace) {
  const id = workspace.opened.id;
  workspace.change({ opened: null });
  document.querySelector(`#cases [data-case="${id}"] .open`)?.focus();
}

function title(hit) {
  return [hit.rank ? `Case ${hit.rank}` : "Case", demographics(hit), hit.attributes.date].filter(Boolean).join(" · ");
}

function headLine(workspace, hit, heading) {
  const hits = workspace.answer?.hits || [];
  const at = hits.findIndex(({ id }) => id === hit.id);
  const go = (words, label, to) =>
    button(words, () => workspace.change({ opened: hits[to] }), { "aria-label": label, title: label, disabled: at < 0 || !hits[to] });
  return el(
    "div",
    { class: "heading" },
    heading,
    el(
      "span",
      { class: "row" },
      go("‹", "Previous case", at - 1),
      go("›", "Next case", at + 1),
      button("Close", () => close(workspace), { title: "Return to the grid (Escape)" }),
    ),
  );
}

function details(workspace, hit, found, showImage, showPairs) {
  const name = nameOf(hit);
  return [
    el(
      "div",
      { class: "case-actions" },
      hit.image && workspace.image && button("Show correspondence", showPairs, { title: "Mark the regions that correspond most strongly in the two images" }),
      hit.image && button("Search with this case", () => searchWith(workspace, imageOf(hit)), { title: "Use it as the query instead of your image" }),
      feedbackButtons(workspace, hit, name),
      listButton(hit, name),
      found.viewer && el("a", { class: "button", href: found.viewer, target: "_blank", rel: "noopener noreferrer" }, "Open in viewer"),
    ),
    found.images.length > 1 &&
      el(
        "p",
        { class: "row", role: "group", "aria-label": "Images of this case" },
        found.images.map(({ id, view }, at) => button(view ? view.toUpperCase() : `Image ${at + 1}`, () => showImage(id))),
      ),
    el("h3", {}, "Findings"),
    findingChips(found, workspace.parents),
    absent(found.findings),
    hit.evidence.length > 0 && [el("h3", {}, "Evidence"), evidenceList(hit)],
    el("h3", {}, "Report"),
    report(found),
    found.diagnosis && [el("h3", {}, "Diagnosis"), el("p", { class: "diagnosis" }, found.diagnosis)],
    el("p", { class: "quiet note" }, `${found.study_id} · ${found.source}`),
  ];
}

function absent({ absent: names }) {
  return names.length > 0 && el("p", { class: "quiet" }, `Absent: ${names.map((name) => name.replaceAll("_", " ")).join(", ")}`);
}

function report(found) {
  if (!found.report?.length) return el("p", { class: "quiet" }, "There is no report.");
  return el("div", { class: "report" }, found.report.map(({ name, text }) => [name !== "body" && el("h4", {}, name), el("p", {}, text)]));
}

/** The draft report: collapsed at first; each sentence with its evidence, and what was not assessed. */

import { postJson, send } from "./api.js";
import { announce, button, el, fill } from "./dom.js";
import { save } from "./exports.js";
import { counted, spoken } from "./labels.js";

/** Reports shown as evidence of a sentence. */
const SOURCES = 3;

/** Offer a draft for the image of a workspace in a section. */
export function showDraft(workspace, section) {
  const body = el("div", { class: "draft-body" });
  const folded = el("details", {}, el("summary", {}, el("h2", { id: "draft-heading" }, "Draft report")), body);
  fill(section, folded);
  const offer = () => {
    section.hidden = !workspace.image || !workspace.answer;
    folded.open = false;
    fill(
      body,
      el("p", { class: "quiet" }, "Sentences of the most similar reports, chosen by vote. Read the image and the cases first."),
      button("Write a draft", () => write(workspace, body), { class: "main-action" }),
    );
  };
  workspace.when(["image", "answer"], offer);
  offer();
}

async function write(workspace, body) {
  const { image } = workspace;
  fill(body, el("p", { class: "quiet", "aria-busy": "true" }, "Writing a draft …"));
  announce("Writing a draft.");
  try {
    const question = { where: workspace.where };
    const draft = await postJson("v1/draft", image.body(question));
    if (image !== workspace.image) return;
    const download = async () => save(await (await send("POST", "v1/exports/draft", image.body(question))).blob(), "draft.txt");
    fill(body, contents(workspace, draft, download));
    announce(draft.drafted ? `A draft of ${counted(draft.sentences.length, "sentence")}.` : draft.reason);
  } catch (problem) {
    fill(body, el("p", { class: "problem", role: "alert" }, problem.message), button("Try again", () => write(workspace, body)));
  }
}

/** The contents of a draft; `download` exports it as a file, which the audit records. */
function contents(workspace, draft, download) {
  if (!draft.drafted) return el("p", { class: "remark", role: "note" }, draft.reason);
  const problem = el("p", { class: "problem", role: "alert" });
  return [
    el("p", { class: "draft-mark" }, draft.heading),
    draft.reason && el("p", { class: "remark", role: "note" }, draft.reason),
    el("ol", { class: "sentences" }, draft.sentences.map((sentence, at) => sentenceItem(workspace, draft, sentence, at))),
    draft.unworded.length > 0 && [
      el("h3", {}, "Voted findings without a matching sentence"),
      el("ul", {}, draft.unworded.map((vote) => el("li", {}, voteText(vote, draft.calibrated_by)))),
    ],
    draft.asked_of_reader.map((name) => el("p", {}, `${name[0].toUpperCase()}${name.slice(1)}? The vote states it, but it was not localized in the image.`)),
    el("h3", {}, "Not assessed"),
    el("p", { class: "quiet" }, draft.not_assessed.map(spoken).join(", ")),
    el("p", { class: "quiet note" }, "Point at a sentence, or move to it with Tab, to see its evidence."),
    el(
      "p",
      { class: "row" },
      button("Save as text", () => download().catch((error) => (problem.textContent = error.message))),
    ),
    problem,
  ];
}

function sentenceItem(workspace, draft, sentence, at) {
  const id = `evidence-${at}`;
  const shown = el(
    "div",
    { class: "evidence", id },
    sentence.votes.map((vote) => el("p", {}, voteText(vote, draft.calibrated_by))),
    el("p", { class: "quiet" }, `Stated in ${counted(sentence.support, "report")}, first in:`),
    el("ul", {}, sentence.sources.slice(0, SOURCES).map((source) => el("li", {}, sourceLine(workspace, source)))),
  );
  const item = el("li", {}, el("span", { class: "sentence", tabindex: 0, role: "note", "aria-describedby": id }, sentence.text), shown);
  item.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    item.classList.add("dismissed");
  });
  for (const leaving of ["mouseleave", "focusout"]) item.addEventListener(leaving, () => item.classList.remove("dismissed"));
  return item;
}

/** A vote in words; `images`: number of images that calibrated the votes, or null without a calibration. */
function voteText({ finding, status, agree, of, probability }, images) {
  const name = `${status === "absent" ? "no " : ""}${spoken(finding)}`;
  const calibration = images
    ? `${Math.round(100 * probability)} of 100 such votes were right, among ${counted(images, "image")} of this index`
    : "votes are not calibrated in this index";
  return `${name}: ${agree} of ${of} neighbours; ${calibration}`;
}

function sourceLine(workspace, source) {
  const hit = workspace.answer?.hits.find(({ id }) => id === source.id);
  const name = hit ? `Case ${hit.rank}` : "Another case";
  const open = () => workspace.change({ opened: hit || { id: source.id, image: null, attributes: {}, evidence: [] } });
  return [source.id ? button(name, open, { class: "link" }) : "A case that was removed", el("q", {}, source.text)];
}

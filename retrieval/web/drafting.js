/** The draft: folded until asked for, each sentence with where it comes from, and what nobody assessed. */

import { postJson, send } from "./api.js";
import { whereOf } from "./conditions.js";
import { announce, button, el, fill } from "./dom.js";
import { counted, spoken } from "./labels.js";
import { save } from "./saving.js";

/** Reports shown behind a sentence. */
const SOURCES = 3;

/** Offer a draft of the desk's film in a section. */
export function showDraft(desk, section) {
  const body = el("div", { class: "draft-body" });
  const folded = el("details", {}, el("summary", {}, el("h2", { id: "draft-heading" }, "Draft report")), body);
  fill(section, folded);
  const offer = () => {
    section.hidden = !desk.film || !desk.answer;
    folded.open = false;
    fill(
      body,
      el("p", { class: "quiet" }, "Sentences of the nearest reports, by vote. Read the film and the cases first."),
      button("Write a draft", () => write(desk, body), { class: "main-action" }),
    );
  };
  desk.when(["film", "answer"], offer);
  offer();
}

async function write(desk, body) {
  const { film } = desk;
  fill(body, el("p", { class: "quiet", "aria-busy": "true" }, "Writing a draft …"));
  announce("Writing a draft.");
  try {
    const question = { where: whereOf(desk.filters) };
    const draft = await postJson("v1/draft", film.body(question));
    if (film !== desk.film) return;
    const take = async () => save(await (await send("POST", "v1/exports/draft", film.body(question))).blob(), "draft.txt");
    fill(body, told(desk, draft, take));
    announce(draft.drafted ? `A draft of ${counted(draft.sentences.length, "sentence")}.` : draft.reason);
  } catch (problem) {
    fill(body, el("p", { class: "problem", role: "alert" }, problem.message), button("Try again", () => write(desk, body)));
  }
}

/** A draft; `take` hands it to the reader as a file, which the service records. */
function told(desk, draft, take) {
  if (!draft.drafted) return el("p", { class: "remark", role: "note" }, draft.reason);
  const problem = el("p", { class: "problem", role: "alert" });
  return [
    el("p", { class: "draft-mark" }, draft.heading),
    draft.reason && el("p", { class: "remark", role: "note" }, draft.reason),
    el("ol", { class: "sentences" }, draft.sentences.map((sentence, at) => line(desk, draft, sentence, at))),
    draft.unworded.length > 0 && [
      el("h3", {}, "Voted, without a sentence that fits"),
      el("ul", {}, draft.unworded.map((vote) => el("li", {}, voted(vote, draft.calibrated_by)))),
    ],
    draft.asked_of_reader.map((name) => el("p", {}, `${name[0].toUpperCase()}${name.slice(1)}? It was voted, and not seen in the film.`)),
    el("h3", {}, "Not assessed"),
    el("p", { class: "quiet" }, draft.not_assessed.map(spoken).join(", ")),
    el("p", { class: "quiet note" }, "Point at a sentence, or go to it by Tab, for its evidence."),
    el(
      "p",
      { class: "row" },
      button("Save as text", () => take().catch((error) => (problem.textContent = error.message))),
    ),
    problem,
  ];
}

function line(desk, draft, sentence, at) {
  const id = `evidence-${at}`;
  const shown = el(
    "div",
    { class: "evidence", id },
    sentence.votes.map((vote) => el("p", {}, voted(vote, draft.calibrated_by))),
    el("p", { class: "quiet" }, `Said so in ${counted(sentence.support, "report")}, first in:`),
    el("ul", {}, sentence.sources.slice(0, SOURCES).map((source) => el("li", {}, from(desk, source)))),
  );
  const made = el("li", {}, el("span", { class: "sentence", tabindex: 0, role: "note", "aria-describedby": id }, sentence.text), shown);
  made.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    made.classList.add("dismissed");
  });
  for (const leaving of ["mouseleave", "focusout"]) made.addEventListener(leaving, () => made.classList.remove("dismissed"));
  return made;
}

/** A vote in words; `films`: how many films taught what votes are worth, or null. */
function voted({ finding, status, agree, of, probability }, films) {
  const name = `${status === "absent" ? "no " : ""}${spoken(finding)}`;
  const worth = films
    ? `of 100 such votes ${Math.round(100 * probability)} were right, among ${counted(films, "film")} of this index`
    : "what such a vote is worth was not measured in this index";
  return `${name}: ${agree} of ${of} neighbours; ${worth}`;
}

function from(desk, source) {
  const hit = desk.answer?.hits.find(({ id }) => id === source.id);
  const name = hit ? `Case ${hit.rank}` : "Another case";
  const open = () => desk.change({ opened: hit || { id: source.id, image: null, attributes: {}, evidence: [] } });
  return [source.id ? button(name, open, { class: "link" }) : "A case that was removed", el("q", {}, source.text)];
}

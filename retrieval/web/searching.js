/** Asking: the desk's question to the service, page by page, the latest question winning. */

import { postJson } from "./api.js";
import { announce } from "./dom.js";
import { whereOf } from "./conditions.js";
import { counted } from "./labels.js";

const PAGE = 12;

let running = null;

/** Search for what the desk asks, and put the answer on it. */
export async function search(desk) {
  running?.abort();
  if (!desk.asks) {
    desk.change({ search: { state: "none" }, answer: null, opened: null });
    return;
  }
  const asking = (running = new AbortController());
  desk.change({ search: { state: "loading" }, answer: null, opened: null });
  announce("Searching.");
  try {
    const answer = await postJson("v1/search", bodyOf(desk, null), asking.signal);
    desk.change({ search: { state: "done" }, answer });
    announce(answer.hits.length ? `${counted(answer.hits.length, "case")} found.` : "No case found.");
  } catch (problem) {
    if (problem.name === "AbortError") return;
    desk.change({ search: { state: "failed", problem } });
  }
}

/** Fetch the next page of the answer. Throws a Problem, and leaves what is there. */
export async function more(desk) {
  const { answer } = desk;
  const next = await postJson("v1/search", bodyOf(desk, answer.next), running.signal);
  if (desk.answer !== answer) return;
  const before = answer.hits.length;
  const hits = [...answer.hits, ...next.hits.map((hit, at) => ({ ...hit, rank: before + at + 1 }))];
  desk.change({ answer: { ...answer, hits, next: next.next } });
  announce(`${counted(next.hits.length, "more case", "more cases")}.`);
}

function bodyOf(desk, cursor) {
  const question = { for: desk.target, k: PAGE, where: whereOf(desk.filters), cursor };
  if (desk.phrase.trim()) question.text = desk.phrase.trim();
  if (desk.likes.size) question.like = [...desk.likes.keys()];
  if (desk.dislikes.size) question.dislike = [...desk.dislikes.keys()];
  if (desk.film && desk.region) {
    const { left, top, right, bottom } = desk.region;
    question.region = [left, top, right, bottom];
  }
  return desk.film ? desk.film.body(question, !desk.region) : question;
}

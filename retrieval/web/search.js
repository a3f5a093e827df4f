/** Searches: send the query of a workspace to the service, page by page; a newer search cancels an older one. */

import { postJson } from "./api.js";
import { announce } from "./dom.js";
import { counted } from "./labels.js";

const PAGE = 12;

let running = null;

/** Search with the query of a workspace and store the answer in it. */
export async function search(workspace) {
  running?.abort();
  if (!workspace.hasQuery) {
    workspace.change({ search: { state: "none" }, answer: null, opened: null });
    return;
  }
  const current = (running = new AbortController());
  workspace.change({ search: { state: "loading" }, answer: null, opened: null });
  announce("Searching.");
  try {
    const answer = await postJson("v1/search", bodyOf(workspace, null), current.signal);
    workspace.change({ search: { state: "done" }, answer });
    announce(answer.hits.length ? `${counted(answer.hits.length, "case")} found.` : "No case found.");
  } catch (problem) {
    if (problem.name === "AbortError") return;
    workspace.change({ search: { state: "failed", problem } });
  }
}

/** Fetch the next page of the answer. Throws a Problem and leaves the answer unchanged. */
export async function more(workspace) {
  const { answer } = workspace;
  const next = await postJson("v1/search", bodyOf(workspace, answer.next), running.signal);
  if (workspace.answer !== answer) return;
  const before = answer.hits.length;
  const hits = [...answer.hits, ...next.hits.map((hit, at) => ({ ...hit, rank: before + at + 1 }))];
  workspace.change({ answer: { ...answer, hits, next: next.next } });
  announce(`${counted(next.hits.length, "more case", "more cases")}.`);
}

function bodyOf(workspace, cursor) {
  const query = { for: workspace.target, k: PAGE, where: workspace.where, cursor };
  if (workspace.phrase.trim()) query.text = workspace.phrase.trim();
  if (workspace.relevant.size) query.like = [...workspace.relevant.keys()];
  if (workspace.irrelevant.size) query.dislike = [...workspace.irrelevant.keys()];
  if (workspace.image && workspace.region) {
    const { left, top, right, bottom } = workspace.region;
    query.region = [left, top, right, bottom];
  }
  return workspace.image ? workspace.image.body(query, !workspace.region) : query;
}

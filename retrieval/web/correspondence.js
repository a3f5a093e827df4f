/** Correspondence between the query image and the image of the open case. */

import { postJson } from "./api.js";
import { announce } from "./dom.js";

const COLOURS = ["#ffbe5c", "#62cdff", "#d8a0ff"];

/**
 * Show correspondences on the panes {query, opened}; `warn` shows errors. Returns `{spot, pairs}`: `spot(point)`
 * shows the best match of a point of the query image, {x, y} in its pixels; `pairs()` the strongest pairs.
 */
export function showCorrespondence(workspace, panes, warn) {
  let answer = null;
  workspace.when(["image", "openedImage"], () => {
    answer = null;
    for (const pane of Object.values(panes)) pane.lay("correspondence");
  });

  function fetchAnswer() {
    const { image, openedImage } = workspace;
    answer ??= postJson("v1/likeness", image.body({ hit: openedImage.id })).catch((error) => {
      answer = null;
      throw error;
    });
    return answer;
  }

  async function show(choose, words, meaning) {
    if (!workspace.image || !workspace.openedImage) return warn("Open a case first: the match is shown in its image.");
    warn("");
    const { image, openedImage } = workspace;
    try {
      const pairs = choose(await fetchAnswer());
      if (image !== workspace.image || openedImage !== workspace.openedImage) return;
      const boxes = (side) => pairs.map((pair, at) => ({ box: pair[side], colour: COLOURS[at], words: pair.score.toFixed(2) }));
      panes.query.lay("correspondence", { boxes: boxes("query"), words: `${words} in the open case` });
      panes.opened.lay("correspondence", { boxes: boxes("hit"), words: `${words} for your image; number: ${meaning}` });
      announce(`${words}: ${pairs.map(({ score }) => score.toFixed(2)).join(", ")}`);
    } catch (error) {
      warn(error.message);
    }
  }

  return {
    spot: (point) => show(({ matches }) => [nearest(matches, point)], "Best match", "cosine similarity of the two regions beyond the average"),
    pairs: () => show(({ pairs }) => pairs, "Strongest correspondence", "strength relative to the strongest pair"),
  };
}

/** The match whose region in the query image is nearest to a point. */
function nearest(matches, { x, y }) {
  const distance = ({ query: { left, top, right, bottom } }) => Math.hypot((left + right) / 2 - x, (top + bottom) / 2 - y);
  return matches.reduce((best, match) => (distance(match) < distance(best) ? match : best));
}

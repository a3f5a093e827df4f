/** Click a spot of your film, see its match in the open case. */

import { postJson } from "./api.js";
import { announce } from "./dom.js";

const COLOURS = ["#ffbe5c", "#62cdff", "#d8a0ff"];

/**
 * Matches between the query's film and the open case's. Returns `{spot, pairs}`: `spot(point)` shows the match of
 * a point of the query's film, {x, y} in its pixels; `pairs()` the strongest pairs.
 */
export function matching(desk, panes, tell) {
  let known = null;
  desk.when(["film", "openedFilm"], () => {
    known = null;
    for (const pane of Object.values(panes)) pane.lay("matched");
  });

  function likeness() {
    const { film, openedFilm } = desk;
    known ??= postJson("v1/likeness", film.body({ hit: openedFilm.image })).catch((error) => {
      known = null;
      throw error;
    });
    return known;
  }

  async function show(choose, words, meaning) {
    if (!desk.film || !desk.openedFilm) return tell("Open a case first: the match is shown in it.");
    tell("");
    const { film, openedFilm } = desk;
    try {
      const pairs = choose(await likeness());
      if (film !== desk.film || openedFilm !== desk.openedFilm) return;
      const boxes = (side) => pairs.map((pair, at) => ({ box: pair[side], colour: COLOURS[at], words: pair.score.toFixed(2) }));
      panes.query.lay("matched", { boxes: boxes("query"), words: `${words} in the open case` });
      panes.opened.lay("matched", { boxes: boxes("hit"), words: `${words} to your film; number: ${meaning}` });
      announce(`Likeness ${pairs.map(({ score }) => score.toFixed(2)).join(", ")}`);
    } catch (error) {
      tell(error.message);
    }
  }

  return {
    spot: (point) => show(({ matches }) => [nearest(matches, point)], "Nearest place", "cosine of what the two places have beyond the average"),
    pairs: () => show(({ pairs }) => pairs, "What is most alike", "strength beside the strongest pair"),
  };
}

/** The match whose place in the query's film is nearest to a point. */
function nearest(matches, { x, y }) {
  const away = ({ query: { left, top, right, bottom } }) => Math.hypot((left + right) / 2 - x, (top + bottom) / 2 - y);
  return matches.reduce((best, match) => (away(match) < away(best) ? match : best));
}

/** A film: one that was dropped here, or one of the index. Its pixels, and how a request names it. */

import { send } from "./api.js";
import { decodeGrey } from "./grey.js";

/** Longer side of what is fetched to be looked at: more than any monitor shows at once. */
const LONGEST = 2560;

export class Film {
  #pixels = null;

  /** `name`: what it is called on the page, empty for the one that was given. One of `file`, a File, and `image`, an opaque id of the index. */
  constructor({ name = "", file = null, image = null, caseId = null }) {
    this.name = name;
    this.file = file;
    this.image = image;
    this.caseId = caseId;
  }

  /**
   * Its grey values: {grey: Uint16Array, width, height, fullWidth, fullHeight}; the last two in pixels of the
   * film as read, in which boxes are told. Fetched once.
   */
  pixels() {
    this.#pixels ??= this.#fetch().catch((error) => {
      this.#pixels = null;
      throw error;
    });
    return this.#pixels;
  }

  /** The body of a request that asks `query` of this film; `asCase`: of its case, where it has one. */
  body(query, asCase = false) {
    if (this.file) return formOf(query, this.file);
    return asCase && this.caseId ? { ...query, case: this.caseId } : { ...query, image: this.image };
  }

  async #fetch() {
    const response = this.file
      ? await send("POST", "v1/previews", formOf({ depth: 16, longest: LONGEST }, this.file))
      : await send("GET", `v1/images/${this.image}?depth=16&longest=${LONGEST}`);
    const told = (name) => Number(response.headers.get(name));
    const size = { fullWidth: told("X-Image-Width"), fullHeight: told("X-Image-Height") };
    return { ...(await decodeGrey(await response.arrayBuffer())), ...size };
  }
}

function formOf(query, file) {
  const form = new FormData();
  form.append("query", JSON.stringify(query));
  // The file's own name may be a person's: it stays here.
  form.append("image", file, "film");
  return form;
}

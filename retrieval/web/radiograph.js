/** A radiograph: one that the reader provided, or one of the index. Its pixels, and its part of a request. */

import { send } from "./api.js";
import { decodeGrey } from "./png.js";

/** Longer side of the pixels that are fetched: more than a monitor shows at once. */
const LONGEST = 2560;

export class Radiograph {
  #pixels = null;

  /** `name`: shown on the page, empty for the reader's own. One of `file`, a File, and `id`, an opaque id of the index. */
  constructor({ name = "", file = null, id = null, caseId = null }) {
    this.name = name;
    this.file = file;
    this.id = id;
    this.caseId = caseId;
  }

  /**
   * Fetch its grey values, once: {grey: Uint16Array, width, height, fullWidth, fullHeight}. The last two are of
   * the image as read; boxes are in these pixels.
   */
  pixels() {
    this.#pixels ??= this.#fetch().catch((error) => {
      this.#pixels = null;
      throw error;
    });
    return this.#pixels;
  }

  /** The body of a request with `query` about this image; `asCase`: about its case, where it has one. */
  body(query, asCase = false) {
    if (this.file) return formOf(query, this.file);
    return asCase && this.caseId ? { ...query, case: this.caseId } : { ...query, image: this.id };
  }

  async #fetch() {
    const response = this.file
      ? await send("POST", "v1/previews", formOf({ depth: 16, longest: LONGEST }, this.file))
      : await send("GET", `v1/images/${this.id}?depth=16&longest=${LONGEST}`);
    const header = (name) => Number(response.headers.get(name));
    const size = { fullWidth: header("X-Image-Width"), fullHeight: header("X-Image-Height") };
    return { ...(await decodeGrey(await response.arrayBuffer())), ...size };
  }
}

function formOf(query, file) {
  const form = new FormData();
  form.append("query", JSON.stringify(query));
  // The file name may be a patient's: it is not sent.
  form.append("image", file, "image");
  return form;
}

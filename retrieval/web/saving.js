/** Handing a file to the reader. */

import { el } from "./dom.js";

/** Save a Blob under a name, as a download. */
export function save(blob, name) {
  const address = URL.createObjectURL(blob);
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** Exports: localizations as PNG, or as DICOM where the image is DICOM; and saving files in the browser. */

import { send } from "./api.js";
import { announce, button, el } from "./dom.js";

/** Form → its label and its description. */
const FORMS = {
  overlay: ["Overlay", "The image with map and outline, as a PNG marked as not for diagnosis"],
  mask: ["Mask", "The outlined region alone, white on black, as a PNG in the size of the image"],
  dicom_seg: ["DICOM SEG", "The region as a DICOM segmentation of this image, for a PACS or a viewer"],
  secondary_capture: ["DICOM capture", "The overlay as a DICOM Secondary Capture in the study of the image"],
};

/** Buttons that export the localization of a phrase in an image in each of its forms; the audit records it. */
export function exportButtons(image, { phrase, result }) {
  const problem = el("span", { class: "problem", role: "alert" });
  const download = async (form) => {
    problem.textContent = "";
    try {
      const response = await send("POST", "v1/exports/localization", image.body({ phrase, form }));
      const [, name] = response.headers.get("Content-Disposition").match(/filename="([^"]+)"/);
      save(await response.blob(), name);
      announce(`Saved as ${name}.`);
    } catch (error) {
      problem.textContent = error.message;
    }
  };
  const buttons = result.forms.map((form) => {
    const [label, title] = FORMS[form];
    return button(label, () => download(form), { title, "aria-label": `Save ${label} of ${phrase}` });
  });
  return el("p", { class: "row exports" }, el("span", { class: "quiet" }, "Save"), buttons, problem);
}

/** Save a Blob under a name, as a download. */
export function save(blob, name) {
  const address = URL.createObjectURL(blob);
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** Taking away where a phrase is: as a picture, or as DICOM where the film is DICOM. */

import { send } from "./api.js";
import { announce, button, el } from "./dom.js";
import { save } from "./saving.js";

/** What each form is called, and what it is for. */
const FORMS = {
  overlay: ["Overlay", "The film with map and outline, as a PNG that says it is not for diagnosis"],
  mask: ["Mask", "The outlined region alone, white on black, as a PNG in the film's size"],
  dicom_seg: ["DICOM SEG", "The region as a DICOM segmentation of this film, for a PACS or a viewer"],
  secondary_capture: ["DICOM picture", "The overlay as a DICOM Secondary Capture in the film's study"],
};

/** Buttons that save a phrase's localization in a film in each of its forms; the service records it. */
export function exportButtons(film, { words, told }) {
  const problem = el("span", { class: "problem", role: "alert" });
  const take = async (form) => {
    problem.textContent = "";
    try {
      const made = await send("POST", "v1/exports/localization", film.body({ phrase: words, form }));
      const [, name] = made.headers.get("Content-Disposition").match(/filename="([^"]+)"/);
      save(await made.blob(), name);
      announce(`Saved as ${name}.`);
    } catch (error) {
      problem.textContent = error.message;
    }
  };
  const made = told.forms.map((form) => {
    const [label, title] = FORMS[form];
    return button(label, () => take(form), { title, "aria-label": `Save ${label} of ${words}` });
  });
  return el("p", { class: "row exports" }, el("span", { class: "quiet" }, "Save"), made, problem);
}

/** Filters: a chip for each condition that every case satisfies, and a form to add one. */

import { getJson } from "./api.js";
import { announce, button, el, fill } from "./dom.js";
import { spoken } from "./labels.js";
import { search } from "./search.js";

const OPERATORS = { "=": "is", "!=": "is not", "<": "<", "<=": "≤", ">": ">", ">=": "≥", in: "one of" };
const STATUSES = ["present", "absent", "uncertain"];

/** Show the filters of a workspace in a section. */
export async function showFilters(workspace, section) {
  const chips = el("ul", { class: "chips", "aria-label": "Filters in use" });
  const form = el("form", { class: "add-filter", "aria-label": "Add a filter" });
  fill(section, el("h2", { id: "filters-heading" }, "Filters"), chips, form);
  const apply = (filters) => {
    workspace.change({ filters });
    if (workspace.hasQuery) search(workspace);
  };
  workspace.when(["filters"], () => showChips(chips, workspace.filters, apply));
  showChips(chips, workspace.filters, apply);
  const { fields, parents } = await getJson("v1/fields");
  workspace.change({ parents });
  showForm(form, fields, (filter) => {
    apply([...workspace.filters, filter]);
    announce(`Filter added: ${filterText(filter)}.`);
  });
}

function showChips(list, filters, apply) {
  fill(
    list,
    filters.map((filter) =>
      el(
        "li",
        { class: "chip" },
        filterText(filter),
        button("×", () => apply(filters.filter((other) => other !== filter)), {
          class: "remove",
          "aria-label": `Remove the filter ${filterText(filter)}`,
        }),
      ),
    ),
  );
}

function filterText({ field, operator, value }) {
  const [name, status] = field === "finding" ? value.split(":") : [value];
  const shown = field === "finding" ? `${spoken(name)}${status ? ` ${status}` : ""}` : name;
  return `${field.replace(/^attr\./, "")} ${OPERATORS[operator]} ${shown}`;
}

function showForm(form, fields, add) {
  const field = el("select", { "aria-label": "Field" }, fields.map(({ name }) => el("option", { value: name }, name.replace(/^attr\./, ""))));
  const operator = el("select", { "aria-label": "Comparison" });
  const value = el("span", { class: "value" });
  const chosen = () => fields.find(({ name }) => name === field.value);
  const shape = () => {
    const { name, operators } = chosen();
    const offered = name === "finding" ? ["="] : operators;
    fill(operator, offered.map((sign) => el("option", { value: sign }, OPERATORS[sign])));
    fillValue(value, chosen(), operator.value);
  };
  field.addEventListener("change", shape);
  operator.addEventListener("change", () => fillValue(value, chosen(), operator.value));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const written = [...value.children].map((input) => input.value.trim()).filter(Boolean);
    if (!written.length) return;
    add({ field: field.value, operator: operator.value, value: written.join(":").replace(/:present$/, "") });
    shape();
  });
  shape();
  fill(form, field, operator, value, el("button", { type: "submit" }, "Add"));
}

function fillValue(container, { name, type, values }, operator) {
  const options = type === "bool" ? ["true", "false"] : values;
  if (options && operator !== "in") {
    const choose = (words, of) => el("select", { "aria-label": words }, of.map((one) => el("option", { value: one }, spoken(one))));
    fill(container, choose("Value", options), name === "finding" && choose("Status", STATUSES));
    return;
  }
  const hint = { date: "2020-03 or 2020-03-14", number: "60" }[type] || "";
  fill(
    container,
    el("input", { "aria-label": "Value", required: true, placeholder: operator === "in" ? "a, b, c" : hint, inputmode: type === "number" ? "decimal" : null }),
  );
}

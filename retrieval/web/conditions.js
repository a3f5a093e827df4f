/** Filters as the service's `where` reads them. */

const PLAIN = /^[^\s(),=!<>"'\\]+$/;
const WORDS = new Set(["and", "or", "not", "in"]);

/** The expression of filters that all hold, or null where there is none. */
export function whereOf(filters) {
  return filters.length ? filters.map(written).join(" and ") : null;
}

function written({ field, operator, value }) {
  if (operator !== "in") return `${field} ${operator} ${quoted(value)}`;
  const values = value.split(",").map((part) => part.trim()).filter(Boolean);
  return `${field} in (${values.map(quoted).join(", ")})`;
}

function quoted(value) {
  if (PLAIN.test(value) && !WORDS.has(value.toLowerCase())) return value;
  return `"${value.replace(/["\\]/g, "\\$&")}"`;
}

/** Texts for values of the service: findings, demographics, numbers, evidence. */

/** The text of a finding. */
export function spoken(finding) {
  return finding === "no_finding" ? "normal" : finding.replaceAll("_", " ");
}

/** The findings of a list without the parents of others in it. */
export function mostSpecific(findings, parents) {
  const above = new Set();
  for (const finding of findings) for (let up = parents[finding]; up; up = parents[up]) above.add(up);
  return findings.filter((finding) => !above.has(finding));
}

/** Sex and age of the patient at the time of the study, as one text. */
export function demographics({ attributes: { sex, age } }) {
  return [sex, age === undefined ? null : `${Math.floor(age)} y`].filter(Boolean).join(" · ");
}

/** "1 case", "3 cases". */
export function counted(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** A note that a report's language has no lexicon, so that no findings were extracted; null otherwise. */
export function unreadNote({ language, findings_read: read }) {
  if (read !== false) return null;
  const name = new Intl.DisplayNames(["en"], { type: "language" }).of(language) || language;
  return `Report in ${name}: findings not extracted.`;
}

/** A reason of the service with a capital letter. */
export function sentence(words) {
  return words.charAt(0).toUpperCase() + words.slice(1);
}

const EVIDENCE = {
  image: "image",
  report: "report",
  sentence: "sentence",
  terms: "words",
  region: "region",
  findings: "findings",
};

/** The name of a kind of evidence. */
export function evidenceName(kind) {
  return EVIDENCE[kind] || kind;
}

/** The meaning of the numbers beside evidence. */
export const SCORES =
  "Numbers are cosine similarities of the encoder's vectors: 1 is identical, 0 is unrelated. Beside “words” the " +
  "number is BM25, which grows with rare words in common. They rank cases; they are not probabilities.";

/** Words for what the service tells: findings, people, dates, numbers. */

/** A finding as one says it. */
export function spoken(finding) {
  return finding === "no_finding" ? "normal" : finding.replaceAll("_", " ");
}

/** Of a list of findings those that no other of the list says more exactly. */
export function exact(findings, parents) {
  const above = new Set();
  for (const finding of findings) for (let up = parents[finding]; up; up = parents[up]) above.add(up);
  return findings.filter((finding) => !above.has(finding));
}

/** Whose case it is, in a line: sex and age at that time. */
export function person({ attributes: { sex, age } }) {
  return [sex, age === undefined ? null : `${Math.floor(age)} y`].filter(Boolean).join(" · ");
}

/** "1 case", "3 cases". */
export function counted(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** That a report's language has no lexicon, so that its findings are not known; null where they were read. */
export function unread({ language, findings_read: read }) {
  if (read !== false) return null;
  const name = new Intl.DisplayNames(["en"], { type: "language" }).of(language) || language;
  return `Report in ${name}: findings not read.`;
}

/** A reason of the service as a sentence that stands by itself. */
export function sentence(words) {
  return words.charAt(0).toUpperCase() + words.slice(1);
}

const EVIDENCE = {
  image: "film",
  report: "report",
  sentence: "sentence",
  terms: "words",
  region: "box",
  findings: "findings",
};

/** What kind of item an evidence is of, as the page calls it. */
export function evidenceName(kind) {
  return EVIDENCE[kind] || kind;
}

/** What the numbers beside evidence mean. */
export const COSINES =
  "Numbers are cosines between what the encoder makes of two items: 1 is the same, 0 is unrelated; beside “words” " +
  "it is BM25, which grows with rare words in common. They put cases in order; they are not probabilities.";

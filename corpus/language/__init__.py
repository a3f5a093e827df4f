"""Report text: sections, sentences, assertion, findings, modifiers, de-identification."""

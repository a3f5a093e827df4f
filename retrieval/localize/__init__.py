"""Where in a picture a finding is, and which part of a case looks like which part of another."""

"""From a source to points and rows: plan, embed, commit, repair, remove."""

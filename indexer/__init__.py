"""The indexer room: embeds a corpus into a catalog (what a case is) and vector stores (what it is like)."""

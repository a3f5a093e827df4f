"""The embedded vector store: the Qdrant engine inside the process."""

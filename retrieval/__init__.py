"""The retrieval room: answers questions about similar cases, as commands today and as a service."""

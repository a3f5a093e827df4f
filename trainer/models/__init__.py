"""Published and local models: find, download, import, export."""

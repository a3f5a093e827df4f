"""Drafts of a report from the nearest neighbours, each sentence with its evidence."""

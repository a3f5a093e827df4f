"""Draft reports from the nearest neighbours, with their evidence."""

"""Candidates, fusion, rerank, near-duplicate removal, diversity."""

"""Segmenters and baselines measured alike on a dataset, on Ray: tables, and nothing that needs a map at hand."""

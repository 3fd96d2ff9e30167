"""Nightly audit of archived frames of steel scrap: what is in each load that is not steel."""

__version__ = "0.1.0"

"""Metrics: what the papers' tables report, from arrays alone."""

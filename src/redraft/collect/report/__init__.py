"""Describe a data set: counts, histograms, findings, and one HTML page."""

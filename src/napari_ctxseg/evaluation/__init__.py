"""Measures of agreement between masks."""

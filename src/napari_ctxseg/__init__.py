"""Teach a segmentation network the small structures that ordinary losses ignore."""

__version__ = "0.1.0"

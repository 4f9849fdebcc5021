"""Processes that compute, and the pipe between them and the viewer."""

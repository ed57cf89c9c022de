"""Stands in for papermill where a test is about processes, not about Jupyter.

With this folder's parent on PYTHONPATH, `guarded.py` runs it in papermill's place. As papermill
does, it writes the executed copy, runs the cells in a process with a group of its own, and exits
with 1 when that process fails or dies. It starts in a tenth of a second, where papermill and a
kernel take two.
"""

"""The reproduction of the paper: its data, experiments, tables, figures and report.

The method, everything above this folder, never imports it; the wheel does not hold it.
"""

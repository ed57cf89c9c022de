"""Tables and figures for readers: report, pages, figures of papers, the README's numbers."""

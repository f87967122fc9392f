"""The book: executed chapters, the proof, the course and the documents as pages that a browser reads without a network.

`builder` puts a source tree together and lets Sphinx render it. The tree is laid out as the repository is (`docs/design.md`, and a
deployment's chapters one folder below the top, as `notebooks/` is), so that links between documents hold as they are.
"""

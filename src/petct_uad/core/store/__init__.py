"""What stages have computed of single studies, kept by the content of all that it was made from.

An entry lies in ``.cache/studies/<stage>/<key>/``, or below the folder that ``PETCT_STORE`` names,
which workspaces may share: the files that a function wrote for one study, what it returned as
``result.json``, and ``manifest.json`` with the SHA-256 of each. The key is a
SHA-256 over the bytes of the study's inputs, the params, the source files and the packages, so that
an entry never goes stale: another input has another key. DVC stays the truth of what is current; a
run without a store, or with an empty one, writes the same bytes.

Nothing that lies in the store is believed. Each file is hashed before it is used; an entry that is
damaged, cut short or another's is reported, removed and computed anew. Who can write there can also
write both a file and its hash: the store guards against accidents, as DVC's cache does.

What is taken is hard-linked into the stage's output where the file system lets it, so an output
must be replaced, never written into; :mod:`petct_uad.core.files` does that.
"""

"""The pipeline's memory (`journal_path`): which versions of which records were delivered.

`versions.py` says what a version is, `journal.py` is the file, `remembered.py` asks it and adds to
it, `resume.py` is what an earlier run left unfinished, and `stream.py` judges the records of one
stream by all of that. `format1.py` carries over the journal of version 0.1.
"""

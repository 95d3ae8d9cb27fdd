"""The results as one self-contained HTML page that opens from a file and makes no network request.

Records, config.json and events.jsonl may be a stranger's: their text is escaped on the page and never part of a figure.
"""

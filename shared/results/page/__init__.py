"""The results as one page of HTML that opens from a file and asks nobody for anything.

What a record, config.json or events.jsonl says is data, maybe a stranger's: it reaches the page escaped, and no text of
theirs reaches a drawing.
"""

"""What both halves share, free of any framework: data-set layouts, metrics, schedules, recipes, logs and results.

Importing anything from here needs numpy and Python 3.7 or newer, nothing else.
"""

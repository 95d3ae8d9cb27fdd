"""The documented launchers, `*/test/*.sh`: one program turns each into one command of main.py and writes its results."""

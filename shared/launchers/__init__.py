"""The documented launchers, `*/test/*.sh`: one program makes each a command of main.py and writes its result files."""

"""Configs: a file here is `--config=configs/<file>.py`, its docstring the lab note."""

"""How fast configs train, and how long metrics take, on this machine: a program a file."""

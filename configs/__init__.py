"""Configs: a file here is `--config=<name>`, its docstring the lab note. Installed as vae_jax.configs."""

"""Simulations of many thousand calls, without the check of types that the tests add to each of them."""

import inspect


def remove_type_checks(monkeypatch, *modules):
    """The functions of these modules as they are written: a check takes longer than a few numbers."""
    for module in modules:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__:
                monkeypatch.setattr(module, name, inspect.unwrap(function))

"""What axe-core finds wrong with a page that is open in the browser."""

import importlib.resources
import json

GRAVE = ("serious", "critical")

RUN = """axe.run().then(({violations}) => JSON.stringify(violations.map(({impact, id, nodes}) =>
  [impact, id, nodes.slice(0, 3).map(({html}) => html.slice(0, 200))])))"""


def grave_violations(browser):
    """[impact, rule, the first elements] of what a reader with other eyes or hands cannot use."""
    script = importlib.resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    browser.evaluate(f"{script}; 0")
    return [violation for violation in json.loads(browser.evaluate(RUN)) if violation[0] in GRAVE]

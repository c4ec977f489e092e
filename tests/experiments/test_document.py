import pytest

from experiments import document


@pytest.mark.parametrize("page", document.PAGES, ids=lambda page: page.file.stem)
def test_the_pages_say_what_the_code_says(page):
    text = page.file.read_text()
    assert text.partition(page.measured)[0] == page.generate(), "run: python -m experiments.document"

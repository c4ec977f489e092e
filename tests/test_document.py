from experiments import document


def test_the_page_of_variants_says_what_the_code_says():
    text = document.FILE.read_text()
    assert text.partition(document.MEASURED)[0] == document.generated(), "run: python -m experiments.document"

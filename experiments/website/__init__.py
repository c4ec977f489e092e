"""What the site of docs/ has beside its pages: the hooks that mkdocs.yml names."""

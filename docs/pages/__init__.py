"""One module per generated page of docs/; `docs/generate.py` writes them."""

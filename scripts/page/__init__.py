"""A page that classifies pictures in the browser, as a static folder: python -m scripts.page."""

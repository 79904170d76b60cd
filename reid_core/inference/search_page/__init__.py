"""A page in the browser that searches a gallery with trained models: drop an image, see the nearest ones.

`collection` says what is searched, `searching` searches it, `server` serves the page. The last needs the extra
`search-page` (Starlette and uvicorn); nothing else of the toolkit imports it.
"""

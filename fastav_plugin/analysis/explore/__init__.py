"""One HTML page that steps through the layers of a prompt: what each method drops, and its cost.

`data` is what the page shows, `encoding` its pictures; the page itself is page.html, .css and .js.
"""

"""Links that hold what a visitor set: every setting stands in the page's address, the server keeps nothing of it."""

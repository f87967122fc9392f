"""HTTP as a browser does it: connections, cookies, forms, redirects."""

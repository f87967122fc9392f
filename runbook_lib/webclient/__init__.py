"""An HTTP client that behaves like a browser: connections, cookies, forms, redirects."""

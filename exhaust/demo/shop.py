"""A small real service: it answers over HTTP on a port of its own choice until it is told to stop."""

import http.server

http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler).serve_forever()

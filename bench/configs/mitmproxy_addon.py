"""What the other peers add, for mitmproxy in reverse mode; bodies are streamed."""


class Forwarded:
    """Adds the forwarding fields on the way in and HSTS on the way out."""

    def requestheaders(self, flow):
        flow.request.stream = True
        headers = flow.request.headers
        client = flow.client_conn.peername[0]
        earlier = headers.get("X-Forwarded-For")
        headers["X-Forwarded-For"] = f"{earlier}, {client}" if earlier else client
        headers["X-Forwarded-Proto"] = "https" if flow.client_conn.tls else "http"
        headers["X-Forwarded-Host"] = headers.get("Host", "")

    def responseheaders(self, flow):
        flow.response.stream = True
        if flow.client_conn.tls:
            flow.response.headers["Strict-Transport-Security"] = "max-age=63072000"


addons = [Forwarded()]

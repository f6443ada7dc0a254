"""Real peers: nginx, curl, ASGI servers, WebSocket libraries."""

"""A small Django site as authentik is one: behind https by header, strict about Host and Origin.

`python site_django.py daphne|uvicorn PORT HOST:PORT` serves it over plain HTTP; HOST:PORT is the
only origin it accepts, as a browser sees it.
"""

import asyncio
import hashlib
import json
import sys

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from channels.sessions import SessionMiddlewareStack
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.urls import path

SERVER, PORT, ORIGIN = sys.argv[1], int(sys.argv[2]), sys.argv[3]

settings.configure(
    SECRET_KEY="only for this test",
    DEBUG=False,
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=[ORIGIN.partition(":")[0]],
    SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
    SECURE_SSL_REDIRECT=True,
    SESSION_COOKIE_SECURE=True,
    CSRF_COOKIE_SECURE=True,
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    INSTALLED_APPS=["django.contrib.sessions"],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
)
django.setup()


def login(request):
    """A form with a CSRF token; Django checks Origin, Referer, Host and scheme against it."""
    if request.method == "POST":
        if request.POST.get("password") != "hunter2":
            return HttpResponse("wrong password", status=403)
        request.session["user"] = request.POST["user"]
        return HttpResponseRedirect("/me")
    token = get_token(request)
    return HttpResponse(
        f'<form method=post><input name=csrfmiddlewaretoken value="{token}" type=hidden>'
        "<input name=user><input name=password type=password><button>Log in</button></form>"
    )


def me(request):
    """What the application believes about the visitor."""
    return JsonResponse(
        {
            "user": request.session.get("user"),
            "secure": request.is_secure(),
            "host": request.get_host(),
            "address": request.META.get("HTTP_X_FORWARDED_FOR"),
            "url": request.build_absolute_uri(),
        }
    )


TILES = 80  # resources of the front page: more than a browser asks for over one HTTP/1 connection


def home(request):
    """A page as applications have them: many small resources, a form with a file."""
    token = get_token(request)
    tiles = "".join(f'<img src="/tile/{number}" width=24>' for number in range(TILES))
    return HttpResponse(
        f"<!doctype html><title>Home</title><h1>{request.session.get('user', 'nobody')}</h1>{tiles}"
        '<form method=post action=/digest enctype="multipart/form-data">'
        f'<input name=csrfmiddlewaretoken value="{token}" type=hidden>'
        "<input type=file name=file><button>Send</button></form>"
    )


def tile(request, number):
    """One small picture."""
    colour = f"hsl({number * 360 // TILES} 80% 50%)"
    picture = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">'
        f'<circle cx="4.5" cy="4.5" r="4" fill="{colour}"/></svg>'
    )
    return HttpResponse(picture, content_type="image/svg+xml")


def digest(request):
    """SHA-256 of the file that was sent by the form."""
    return HttpResponse(hashlib.sha256(request.FILES["file"].read()).hexdigest())


async def events(request):
    """Three server-sent events, each after the last has been seen to go."""

    async def stream():
        for number in range(3):
            yield f"data: {number}\n\n"
            await asyncio.sleep(0.05)

    return StreamingHttpResponse(stream(), content_type="text/event-stream")


def upload(request):
    """The size of a body, read as it comes."""
    return JsonResponse(
        {"length": sum(len(part) for part in iter(lambda: request.read(65536), b""))}
    )


upload.csrf_exempt = True
urlpatterns = [
    path("", home),
    path("tile/<int:number>", tile),
    path("login", login),
    path("me", me),
    path("upload", upload),
    path("digest", digest),
    path("events", events),
]


class Echo(AsyncWebsocketConsumer):
    """Echoes; the first message says who is logged in. `/ws/deny` refuses the handshake."""

    async def connect(self):
        if self.scope["path"] == "/ws/deny":
            await self.close()
            return
        offered = self.scope["subprotocols"]
        await self.accept(subprotocol=offered[0] if offered else None)
        user = self.scope["session"].get("user")
        await self.send(json.dumps({"user": user}))

    async def receive(self, text_data=None, bytes_data=None):
        if text_data == "close, please":
            await self.close(code=4321)
        else:
            await self.send(text_data=text_data, bytes_data=bytes_data)


application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AllowedHostsOriginValidator(
            SessionMiddlewareStack(
                URLRouter([path("ws/echo", Echo.as_asgi()), path("ws/deny", Echo.as_asgi())])
            )
        ),
    }
)

if __name__ == "__main__":
    if SERVER == "uvicorn":
        import uvicorn

        uvicorn.run(
            application, host="127.0.0.1", port=PORT, proxy_headers=False, ws_max_size=1 << 26
        )
    else:
        from daphne.endpoints import build_endpoint_description_strings
        from daphne.server import Server

        Server(
            application,
            endpoints=build_endpoint_description_strings(host="127.0.0.1", port=PORT),
            websocket_timeout=-1,
        ).run()

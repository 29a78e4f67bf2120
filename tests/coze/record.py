"""What Coze's official SDK sends in each of its OAuth flows, for the operator's requests to be held against.

    python record.py [--base-url URL] [--ca FILE] [--key FILE] [--inputs JSON]

Without --base-url it answers itself, on a free port of 127.0.0.1, in the shapes that the SDK reads. --ca is the bundle to
trust at an https URL, --key the PEM of the private key of the JWT flow (one is made without it). --inputs sets any of the
inputs, which the document repeats; what would be secret is made at each run.

Prints one JSON document:

    cozepy          version of the SDK
    base_url        where it sent its requests
    inputs          what the flows were given
    authorize_urls  {name: URL that a person is sent to}
    requests        [{flow, method, path, query, headers, body, jwt: {header, claims} or null}, ...] in order
    replies         [{flow, ...the fields that the SDK took from the reply}, ...] in order
    pauses          seconds that the SDK waited between polls of the device flow
    errors          [{status, reply, raised, code, message}, ...]: what the SDK makes of replies (without --base-url only)
"""

import argparse
import base64
import json
import secrets
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from unittest import mock
from urllib.parse import parse_qs

from cozepy import DeviceOAuthApp, JWTOAuthApp, PKCEOAuthApp, Scope, WebOAuthApp
from cozepy.exception import CozeError
from cozepy.request import Requester, SyncHTTPClient
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

HEADERS = ("authorization", "content-type", "accept")

# Replies that are errors to the SDK, or are not although they look like it.
ERRORS = [
    (400, {"error_code": "access_denied", "error_message": "denied", "error": "access_denied"}),
    (400, {"error_code": "expired_token", "error_message": "expired"}),
    (401, {"error_code": "invalid_client", "error_message": "invalid client"}),
    (400, {"error": "invalid_grant", "error_description": "as in RFC 6749"}),
    (200, {"code": 4100, "msg": "authentication is invalid"}),
    (500, {"access_token": "of a status that is not looked at", "expires_in": 1}),
    (502, "not JSON"),
]


class Coze(ThreadingHTTPServer):
    """Answers as Coze does; expires_in of a token is a moment, not a duration."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.forced = None
        self.polls = iter(("authorization_pending", "slow_down"))
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def answer(self, path, body):
        if self.forced:
            return self.forced
        if path.endswith("/device/code"):
            return 200, {
                "device_code": secrets.token_hex(8),
                "user_code": "ABCD-EFGH",
                "verification_uri": "https://www.coze.com/open/oauth/device",
                "interval": 5,
                "expires_in": 300,
            }
        if body["grant_type"].endswith(":device_code") and (error := next(self.polls, None)):
            return 400, {"error_code": error, "error_message": error}
        token = {"access_token": secrets.token_hex(8), "expires_in": int(time.time()) + 900, "token_type": "Bearer"}
        # The JWT flow has no refresh tokens.
        return 200, token if body["grant_type"].endswith(":jwt-bearer") else token | {"refresh_token": secrets.token_hex(8)}


class Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        status, reply = self.server.answer(self.path, json.loads(body))
        content = (reply if isinstance(reply, str) else json.dumps(reply)).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def segments(authorization):
    """Header and claims, if what is presented is a JWT."""
    parts = (authorization or "").removeprefix("Bearer ").split(".")
    if len(parts) != 3:
        return None
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2])
    return {"header": header, "claims": claims}


class Recorder:
    def __init__(self, base_url, ca):
        self.base_url = base_url
        self.flow = None
        self.requests, self.replies = [], []
        verify = ssl.create_default_context(cafile=ca) if ca else True
        # Not by way of a proxy that the environment may name.
        self.client = SyncHTTPClient(verify=verify, trust_env=False, event_hooks={"request": [self.record]})

    def record(self, request):
        headers = {name: request.headers[name] for name in HEADERS if name in request.headers}
        self.requests.append({
            "flow": self.flow,
            "method": request.method,
            "path": request.url.path,
            "query": parse_qs(request.url.query.decode()),
            "headers": headers,
            "body": json.loads(request.content) if request.content else None,
            "jwt": segments(headers.get("authorization")),
        })

    def app(self, kind, **arguments):
        """An app of the SDK whose requests are seen."""
        app = kind(base_url=self.base_url, **arguments)
        app._requester = Requester(sync_client=self.client)
        return app

    def run(self, flow, call, *positional, **named):
        self.flow = flow
        reply = call(*positional, **named)
        fields = reply.model_dump(exclude={"response"})
        self.replies.append({"flow": flow} | fields)
        return reply


def private_key(path):
    if path:
        with open(path, encoding="ascii") as file:
            return file.read()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(*form).decode()


def run(recorder, key, given):
    """Every flow; the URLs to send a person to."""
    client = {"client_id": given["client_id"]}
    redirect, workspace = given["redirect_uri"], given["workspace_id"]

    jwt = recorder.app(JWTOAuthApp, private_key=key, public_key_id=given["public_key_id"], **client)
    recorder.run("jwt", jwt.get_access_token)
    recorder.run("jwt, ttl", jwt.get_access_token, ttl=given["ttl"])
    recorder.run("jwt, session_name", jwt.get_access_token, session_name=given["session_name"])
    recorder.run("jwt, scope", jwt.get_access_token, scope=Scope.build_bot_chat(given["bot_ids"]))

    web = recorder.app(WebOAuthApp, client_secret=given["client_secret"], **client)
    recorder.run("web, code", web.get_access_token, redirect, given["code"])
    recorder.run("web, refresh", web.refresh_access_token, given["refresh_token"])

    pkce = recorder.app(PKCEOAuthApp, **client)
    recorder.run("pkce, code", pkce.get_access_token, redirect, given["code"], given["code_verifier"])
    recorder.run("pkce, refresh", pkce.refresh_access_token, given["refresh_token"])

    device = recorder.app(DeviceOAuthApp, **client)
    recorder.run("device, workspace", device.get_device_code, workspace_id=workspace)
    code = recorder.run("device, code", device.get_device_code)
    recorder.run("device, poll", device.get_access_token, code.device_code, poll=True)
    recorder.run("device, refresh", device.refresh_access_token, given["refresh_token"])

    verifier, state = given["code_verifier"], given["state"]
    return {
        "web": web.get_oauth_url(redirect, state=state),
        "web, workspace": web.get_oauth_url(redirect, state=state, workspace_id=workspace),
        "pkce, S256": pkce.get_oauth_url(redirect, verifier, "S256", state=state),
        "pkce, S256, workspace": pkce.get_oauth_url(redirect, verifier, "S256", state=state, workspace_id=workspace),
        "pkce, plain": pkce.get_oauth_url(redirect, verifier, state=state),
    }


def errors(coze, recorder, given):
    app = recorder.app(PKCEOAuthApp, client_id=given["client_id"])
    seen = []
    for status, reply in ERRORS:
        coze.forced = status, reply
        try:
            app.refresh_access_token(given["refresh_token"])
            raised = None
        # Also pydantic's, where the SDK takes a reply for a token that it is not.
        except (CozeError, ValueError) as error:
            raised = error
        seen.append({
            "status": status,
            "reply": reply,
            "raised": raised and type(raised).__name__,
            "code": getattr(raised, "code", None),
            "message": getattr(raised, "msg", None) or getattr(raised, "error", None),
        })
    return seen


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-url")
    parser.add_argument("--ca")
    parser.add_argument("--key")
    parser.add_argument("--inputs", type=json.loads, default={})
    arguments = parser.parse_args()
    given = {
        "bot_ids": ["7001", "7002"],
        "client_id": "1234567890",
        "client_secret": secrets.token_hex(16),
        "code": secrets.token_hex(16),
        "code_verifier": secrets.token_urlsafe(48),
        "public_key_id": "key-1",
        "redirect_uri": "https://operator.example/oauth/callback?a=1&b=2",
        "refresh_token": secrets.token_hex(16),
        "session_name": "session of ann",
        "state": "state with <signs> & more",
        "ttl": 7200,
        "workspace_id": "7100",
    } | arguments.inputs

    coze = None if arguments.base_url else Coze()
    recorder = Recorder(arguments.base_url or f"http://127.0.0.1:{coze.server_port}", arguments.ca)
    pauses = []
    sleep = time.sleep

    def pause(seconds):
        pauses.append(seconds)
        # Only another server may need the time.
        if not coze:
            sleep(seconds)

    with mock.patch("time.sleep", pause):
        urls = run(recorder, private_key(arguments.key), given)
    document = {
        "cozepy": version("cozepy"),
        "base_url": recorder.base_url,
        "inputs": given,
        "authorize_urls": urls,
        "requests": list(recorder.requests),
        "replies": recorder.replies,
        "pauses": pauses,
        "errors": errors(coze, recorder, given) if coze else [],
    }
    json.dump(document, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()

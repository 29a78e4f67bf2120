"""A WebSocket server that asks for a bearer token and sends back what it is sent, and a client of it.

    python websocket.py serve PORT TOKEN
    python websocket.py talk URL

`talk` prints one JSON document: {protocol, echoes, closed: {code, reason}}.
"""

import json
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve

# A short text, a frame of 200 KB, bytes that are no text, and the word at which the server ends.
MESSAGES = ["hello", "x" * 200_000, bytes(range(256)), "end"]


def echo(connection):
    for message in connection:
        connection.send(message)
        if message == "end":
            return connection.close(4001, "as told")


def refuse(token):
    def check(connection, request):
        if request.headers.get_all("Authorization") != [f"Bearer {token}"]:
            return connection.respond(401, "another token\n")

    return check


def talk(url):
    document = {"echoes": []}
    with connect(url, subprotocols=["chat"], open_timeout=10, close_timeout=10) as connection:
        document["protocol"] = connection.subprotocol
        for message in MESSAGES:
            connection.send(message)
            document["echoes"].append(connection.recv(timeout=10) == message)
        try:
            connection.recv(timeout=10)
        except ConnectionClosed as closed:
            document["closed"] = {"code": closed.rcvd and closed.rcvd.code, "reason": closed.rcvd and closed.rcvd.reason}
    print(json.dumps(document))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        options = {"process_request": refuse(sys.argv[3]), "subprotocols": ["chat"]}
        with serve(echo, "127.0.0.1", int(sys.argv[2]), **options) as server:
            server.serve_forever()
    else:
        talk(sys.argv[2])

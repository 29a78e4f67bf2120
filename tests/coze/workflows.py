"""Calls of workflows that Coze's official SDK makes, and what it makes of the answers.

    python workflows.py --base-url URL --ca FILE CALLS

CALLS is a JSON list of {call, token, arguments}: `call` is create, stream, resume or retrieve (of run histories), and
`arguments` are the SDK's own. They are made one after the other; nothing is tried again.

Prints a JSON list with one outcome for each call, in order:

    status, logid  of the answer: its HTTP status, and its id as the SDK names it
    answer         what a plain call gave, all its fields
    events         [{...all fields of an event}, ...]: what a stream gave until it ended
    raised         {class, code, message, logid, debug_url}: what the SDK raised, where it did
"""

import argparse
import json
import ssl
import sys

import cozepy
import httpx


def dump(model):
    return model.model_dump(mode="json")


def client(base_url, ca, token, outcome):
    def answered(response):
        outcome["status"] = response.status_code

    # Not by way of a proxy that the environment may name.
    settings = {"verify": ssl.create_default_context(cafile=ca), "trust_env": False, "timeout": 30}
    http = cozepy.SyncHTTPClient(event_hooks={"response": [answered]}, **settings)
    return cozepy.Coze(cozepy.TokenAuth(token), base_url, http)


def perform(runs, call, arguments, outcome):
    if call in ("create", "retrieve"):
        answer = runs.create(**arguments) if call == "create" else runs.run_histories.retrieve(**arguments)
        outcome["logid"] = answer.response.logid
        outcome["answer"] = dump(answer)
        return
    stream = runs.stream(**arguments) if call == "stream" else runs.resume(**arguments)
    outcome["logid"] = stream.response.logid
    outcome["events"] = []
    for event in stream:
        outcome["events"].append(dump(event))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("calls", type=json.loads)
    given = parser.parse_args()
    outcomes = []
    for call in given.calls:
        outcome = {"status": None, "logid": None, "answer": None, "events": None, "raised": None}
        runs = client(given.base_url, given.ca, call["token"], outcome).workflows.runs
        try:
            perform(runs, call["call"], call["arguments"], outcome)
        # What it does not foresee too: pydantic's, and the transport's.
        except (cozepy.CozeError, ValueError, httpx.HTTPError) as error:
            outcome["raised"] = {
                "class": type(error).__name__,
                "code": getattr(error, "code", None),
                "message": getattr(error, "msg", str(error)),
                "logid": getattr(error, "logid", None),
                "debug_url": getattr(error, "debug_url", None),
            }
        outcomes.append(outcome)
    json.dump(outcomes, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()

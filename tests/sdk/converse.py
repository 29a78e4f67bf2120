"""Calls that the official SDKs of Coze, OpenAI and Anthropic make, and what they make of the answers.

    python converse.py CALLS

CALLS is a JSON list of {vendor, base_url, key, request_id, stream}: `key` is the SDK's own API key, `request_id` goes along
as x-request-id, and `stream` is whether the answer comes as events. All are made at the same time, and nothing is tried again
by the SDK itself. After the first event of a stream, GET /go-on is asked for at the same place: a stream that is
held until then has been passed on event by event.

Prints a JSON list with one outcome for each call, in order:

    status, headers   of the last answer
    answer            what a plain call gave
    events            [{event, data}, ...]: what a stream gave
    raised            {class, message, code, request_id, body}: what the SDK raised, where it did
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import anthropic
import cozepy
import httpx
import openai

QUESTION = "Say hello"


def dump(model):
    return model.model_dump(mode="json", exclude_unset=True)


def hooks(call, seen):
    """Sends the request's id along, and sees the answer's head."""

    def sent(request):
        request.headers["x-request-id"] = call["request_id"]

    def answered(response):
        seen["status"] = response.status_code
        seen["headers"] = dict(response.headers)

    return {"request": [sent], "response": [answered]}


def coze(call, seen):
    client = cozepy.SyncHTTPClient(event_hooks=hooks(call, seen), trust_env=False, timeout=20)
    sdk = cozepy.Coze(cozepy.TokenAuth(call["key"]), call["base_url"], client)
    question = [cozepy.Message.build_user_question_text(QUESTION)]
    if not call["stream"]:
        return dump(sdk.chat.create(bot_id="7370001", user_id="ann", additional_messages=question))
    stream = sdk.chat.stream(bot_id="7370001", user_id="ann", additional_messages=question)
    return ({"event": event.event.value, "data": dump(event.chat or event.message)} for event in stream)


def open_ai(call, seen):
    client = openai.DefaultHttpxClient(event_hooks=hooks(call, seen), trust_env=False)
    settings = {"base_url": call["base_url"] + "/v1", "api_key": call["key"], "max_retries": 0, "timeout": 20}
    sdk = openai.OpenAI(http_client=client, **settings)
    question = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": QUESTION}]}
    if not call["stream"]:
        return dump(sdk.chat.completions.create(**question))
    stream = sdk.chat.completions.create(stream=True, **question)
    return ({"event": None, "data": dump(chunk)} for chunk in stream)


def anthropic_(call, seen):
    client = anthropic.DefaultHttpxClient(event_hooks=hooks(call, seen), trust_env=False)
    settings = {"base_url": call["base_url"], "api_key": call["key"], "max_retries": 0, "timeout": 20}
    # Earlier versions of the SDK send their key in this header.
    sdk = anthropic.Anthropic(http_client=client, default_headers={"X-Api-Key": call["key"]}, **settings)
    question = {"model": "claude-sonnet-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": QUESTION}]}
    if not call["stream"]:
        return dump(sdk.messages.create(**question))
    stream = sdk.messages.create(stream=True, **question)
    return ({"event": event.type, "data": dump(event)} for event in stream)


VENDORS = {"coze": coze, "openai": open_ai, "anthropic": anthropic_}


def converse(call):
    seen = {}
    try:
        answer = VENDORS[call["vendor"]](call, seen)
        if not call["stream"]:
            return seen | {"answer": answer}
        seen["events"] = []
        for event in answer:
            seen["events"].append(event)
            if len(seen["events"]) == 1:
                httpx.get(call["base_url"] + "/go-on", trust_env=False, timeout=20).raise_for_status()
    except Exception as error:
        seen["raised"] = {
            "class": f"{type(error).__module__.split('.')[0]}.{type(error).__name__}",
            "message": getattr(error, "msg", None) or getattr(error, "message", None) or str(error),
            "code": getattr(error, "code", None),
            "request_id": getattr(error, "request_id", None) or getattr(error, "logid", None),
            "body": getattr(error, "body", None),
        }
    return seen


if __name__ == "__main__":
    calls = json.loads(sys.argv[1])
    with ThreadPoolExecutor(len(calls)) as pool:
        json.dump(list(pool.map(converse, calls)), sys.stdout)

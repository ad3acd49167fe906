"""OpenAI's own client against Berth: what works with OpenAI works here. Takes the base URL and the key."""

import sys

import openai
from openai import OpenAI

base_url, key = sys.argv[1], sys.argv[2]
client = OpenAI(base_url=base_url, api_key=key, max_retries=0)
ask = client.chat.completions.create
ahoy = [{"role": "user", "content": "Ahoy, you"}]

done = ask(model="echo", messages=ahoy, temperature=0)
assert done.choices[0].message.content == "Ahoy, you", done
assert done.choices[0].finish_reason == "stop" and done.usage.total_tokens > 0, done

streamed = list(ask(model="echo", messages=ahoy, stream=True, stream_options={"include_usage": True}))
words = "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
assert words == "Ahoy, you" and streamed[-1].usage.total_tokens > 0, streamed

tool = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
messages = [{"role": "user", "content": 'call add {"a": 1, "b": 2}'}]
first = ask(model="echo", messages=messages, tools=[tool])
call = first.choices[0].message.tool_calls[0]
assert first.choices[0].finish_reason == "tool_calls" and call.function.name == "add", first
assert call.function.arguments == '{"a":1,"b":2}', call
messages += [first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "3"}]
assert ask(model="echo", messages=messages, tools=[tool]).choices[0].message.content == "3"

with client.chat.completions.stream(model="echo", messages=messages[:1], tools=[tool]) as stream:
    stream.until_done()
    last = stream.get_final_completion()
assert last.choices[0].message.tool_calls[0].function.arguments == '{"a":1,"b":2}', last

assert [model.id for model in client.models.list()] == ["echo"]
assert client.models.retrieve("echo").owned_by == "echo"


def refused(kind, code, **arguments):
    try:
        ask(**arguments)
    except kind as error:
        assert error.code == code, (error.code, error)
    else:
        raise AssertionError(f"nothing was refused: {arguments}")


refused(openai.NotFoundError, "model_not_found", model="nobody", messages=ahoy)
refused(openai.BadRequestError, "validation_error", model="echo", messages=[])
refused(openai.BadRequestError, "validation_error", model="echo", messages=ahoy, n=2)
refused(openai.BadRequestError, "context_length_exceeded", model="echo", messages=[{"role": "user", "content": "x" * 600_000}])

vectors = client.embeddings.create(model="default", input=["a", "b"])
assert len(vectors.data) == 2 and len(vectors.data[0].embedding) > 0, vectors

try:
    OpenAI(base_url=base_url, api_key="wrong", max_retries=0).models.list()
    raise AssertionError("a wrong key was accepted")
except openai.AuthenticationError:
    pass

print("all of it works with", openai.__version__)

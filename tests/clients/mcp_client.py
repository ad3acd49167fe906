"""The official Python SDK against Berth's endpoint, in both eras. Takes the address of the endpoint and a token."""

import asyncio
import sys

import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

url, token = sys.argv[1], sys.argv[2]
asked = []


async def elicit(context, params):
    asked.append(params.message)
    return types.ElicitResult(action="accept", content={"name": "Ada"})


async def work(mode):
    progress = []

    async def told(done, total, message):
        progress.append((done, total))

    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=60) as http:
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, mode=mode, elicitation_callback=elicit) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert "projects_create" in tools and "progress" in tools, sorted(tools)
            made = await client.call_tool("projects_create", {"name": f"By Python {mode}"})
            assert not made.is_error and made.structured_content["name"] == f"By Python {mode}", made
            wrong = await client.call_tool("projects_create", {"name": 7})
            assert wrong.is_error and "name" in wrong.content[0].text, wrong
            uri = f"berth://projects/{made.structured_content['id']}"
            read = await client.read_resource(uri)
            assert made.structured_content["id"] in read.contents[0].text, read
            templates = (await client.list_resource_templates()).resource_templates
            assert any(template.uri_template == "berth://projects/{id}" for template in templates), templates
            done = await client.call_tool("progress", {}, progress_callback=told)
            assert not done.is_error and progress[-1] == (100, 100), (done, progress)
            hello = await client.call_tool("name", {})
            assert hello.content[0].text == "Hello, Ada!" and asked[-1] == "What is your name?", hello
            prompts = (await client.list_prompts()).prompts
            assert any(prompt.name == "simple" for prompt in prompts), prompts
            said = await client.get_prompt("simple")
            assert said.messages[0].content.text == "This is a simple prompt for testing.", said
            try:
                await client.read_resource("berth://projects/nothing")
                raise AssertionError("nothing was read")
            except MCPError as error:
                assert error.error.code in (-32002, -32602), error


async def refused():
    try:
        async with httpx2.AsyncClient(headers={"authorization": "Bearer wrong"}) as http:
            async with Client(streamable_http_client(url, http_client=http), mode="legacy"):
                raise AssertionError("a wrong token was accepted")
    except AssertionError:
        raise
    except BaseException:  # whatever the SDK makes of a 401
        pass


async def main():
    for mode in ("legacy", "2026-07-28", "auto"):
        await work(mode)
    await refused()
    print("all of it works")


asyncio.run(main())

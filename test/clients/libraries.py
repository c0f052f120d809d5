# python libraries.py PART: the calls of one library of PyPI. Each answer is a line, and so is each error, as its users see it.
# The environment alone points them, but for LiteLLM at Google.
import asyncio
import os
import sys

PROMPT = "say hello"
MESSAGES = [{"role": "user", "content": PROMPT}]


def openai():
    from openai import OpenAI

    client = OpenAI()
    chat = {"model": "gpt-4o-mini", "messages": MESSAGES}
    responses = {"model": "gpt-5.2", "input": PROMPT}
    return [
        lambda: client.chat.completions.create(**chat),
        lambda: list(client.chat.completions.create(**chat, stream=True)),
        lambda: client.responses.create(**responses),
        lambda: list(client.responses.create(**responses, stream=True)),
        lambda: client.embeddings.create(model="text-embedding-3-small", input=PROMPT),
    ]


def anthropic():
    from anthropic import Anthropic

    client = Anthropic()
    question = {"model": "claude-haiku-4-5", "max_tokens": 500, "messages": MESSAGES}

    def stream():
        with client.messages.stream(**question) as answer:
            return answer.get_final_message()

    return [lambda: client.messages.create(**question), stream]


def google_genai():
    from google import genai

    client = genai.Client()
    question = {"model": "gemini-2.5-flash", "contents": PROMPT}
    return [
        lambda: client.models.generate_content(**question),
        lambda: list(client.models.generate_content_stream(**question)),
    ]


def litellm():
    import litellm

    # It does not read the variable of Google's SDK.
    base = os.environ["GOOGLE_GEMINI_BASE_URL"] + "/v1beta"
    return [
        lambda: litellm.completion(model="openai/gpt-4o-mini", messages=MESSAGES),
        lambda: litellm.completion(model="anthropic/claude-haiku-4-5", messages=MESSAGES),
        lambda: litellm.completion(model="gemini/gemini-2.5-flash", messages=MESSAGES, api_base=base),
    ]


def both(chat):
    return [lambda: chat.invoke(PROMPT), lambda: list(chat.stream(PROMPT))]


def langchain_openai():
    from langchain_openai import ChatOpenAI

    return both(ChatOpenAI(model="gpt-4o-mini"))


def langchain_anthropic():
    from langchain_anthropic import ChatAnthropic

    return both(ChatAnthropic(model="claude-haiku-4-5"))


def langchain_google():
    from langchain_google_genai import ChatGoogleGenerativeAI

    return both(ChatGoogleGenerativeAI(model="gemini-2.5-flash"))


def openai_agents():
    from agents import Agent, Runner

    agent = Agent(name="one", model="gpt-5.2")
    return [lambda: Runner.run_sync(agent, PROMPT)]


def pydantic_ai():
    from pydantic_ai import Agent

    return [
        lambda: Agent("openai-chat:gpt-4o-mini").run_sync(PROMPT),
        lambda: Agent("google:gemini-2.5-flash").run_sync(PROMPT),
    ]


def smolagents():
    from smolagents import CodeAgent, OpenAIServerModel

    model = OpenAIServerModel("gpt-4o-mini")
    return [lambda: CodeAgent(tools=[], model=model, max_steps=2).run(PROMPT)]


def instructor():
    import instructor
    from openai import OpenAI
    from pydantic import BaseModel

    class Answer(BaseModel):
        answer: str

    client = instructor.from_openai(OpenAI())
    return [lambda: client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, response_model=Answer)]


PART = sys.argv[1]
try:
    asyncio.get_event_loop()
except RuntimeError:
    asyncio.set_event_loop(asyncio.new_event_loop())
for number, call in enumerate(globals()[PART.replace("-", "_")](), 1):
    try:
        call()
        print(f"{PART} {number}: ok", flush=True)
    except Exception as error:
        print(f"{PART} {number}: {type(error).__name__} {getattr(error, 'status_code', '')} {error}", flush=True)

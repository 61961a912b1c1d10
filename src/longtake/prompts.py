"""Prompt expansion: a language model rewrites a short prompt as a detailed scene for the video model."""

from functools import partial

import httpx

from longtake.errors import ExpansionFailed
from longtake.settings import Settings
from longtake.threads import awaited, in_thread
from longtake.video import Check, no_check

MAX_WORDS = 120
"""Prompts of this many words or more are not expanded."""

MAX_CHARACTERS = 10_000
"""Prompts of this many characters or more are not expanded, however few words they have."""

MAX_NEW_TOKENS = 256
"""Largest number of tokens in the language model's answer. The 150 words that it is asked for need about 200."""

TIMEOUT_S = 30
"""Largest number of seconds for connecting to the server, and for each wait for data from it."""

INSTRUCTION = (
    "You prepare prompts for a model that continues a video. Rewrite the user's prompt as one paragraph in the present "
    "tense, at most 150 words: what moves and how, then the look of subjects and place, then camera and light. Keep "
    "every fact of the user's prompt, invent no new subjects, and answer with the paragraph alone."
)
"""The system message for the language model."""


def expand(prompt: str, settings: Settings, check: Check = no_check) -> tuple[str, str | None]:
    """Returns (the expanded prompt, None), or (`prompt` unchanged, a sentence for the user that says why).

    The OpenAI-compatible server at `settings.expansion_url` expands the prompt. The prompt stays unchanged if no server
    is configured, if it already has 120 or more words or 10,000 or more characters, or if the server returns an empty
    text.

    `check` is called again and again while the server works. It may raise an exception to end the wait.

    Raises ExpansionFailed if the server cannot be reached, answers with an error status, or sends an answer in another
    format.
    """
    if settings.expansion_url is None:
        return prompt, "The prompt was not expanded: no language model is configured (LONGTAKE_EXPANSION_URL)."
    if len(prompt) >= MAX_CHARACTERS or len(prompt.split()) >= MAX_WORDS:
        long = f"{MAX_WORDS} words or {MAX_CHARACTERS} characters or more"
        return prompt, f"The prompt was not expanded: it already has {long}."
    expanded = awaited(in_thread(partial(_answer, settings.expansion_url, prompt, settings), "expand prompt"), check)
    return (expanded, None) if expanded else (prompt, "The prompt was not expanded: the language model said nothing.")


def _answer(url: str, prompt: str, settings: Settings) -> str:
    """Returns the text that the language model at `url` answers. Raises ExpansionFailed if there is none."""
    key = settings.expansion_key
    try:
        answer = httpx.post(
            url.rstrip("/") + "/chat/completions",
            headers={"Authorization": f"Bearer {key.get_secret_value()}"} if key else {},
            json={
                "model": settings.expansion_model,
                "messages": [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": prompt}],
                "max_tokens": MAX_NEW_TOKENS,
            },
            timeout=TIMEOUT_S,
        )
        answer.raise_for_status()
        return str(answer.json()["choices"][0]["message"]["content"]).strip()
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        raise ExpansionFailed(
            f"The prompt could not be expanded: the language model at LONGTAKE_EXPANSION_URL {_failure(error)}.",
            loc=("body", "prompt"),
        ) from error


def _failure(error: Exception) -> str:
    """Returns what the server of the language model has done wrong, for an error message.

    The text has no address, because clients of a server read it. The address is the operator's, and may have a
    password.
    """
    match error:
        case httpx.HTTPStatusError():
            return f"answered {error.response.status_code}"
        case httpx.HTTPError():
            return f"cannot be reached ({type(error).__name__})"
    return "answered in another format than OpenAI's"

"""HTTP calls to a ticket system: bounded in time and size, off the event loop, with typed errors.

What is safe to send twice is tried again on a broken connection and on 429 and 5xx, after as long as the answer asks
for. What is not is tried again only after 429 and 503 with Retry-After, which say that nothing was done.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from omnirelay.config.tickets import JiraSettings, ServiceNowSettings, WebhookSettings
from omnirelay.errors import TicketCredentialsRefused, TicketNotFound, TicketRefused, TicketUnavailable

THREADS = 4
MAX_ANSWER_BYTES = 4 * 1024 * 1024
FIRST_PAUSE_SECONDS = 0.2
LONGEST_REASON = 300
CHUNK_BYTES = 64 * 1024

Files = Mapping[str, tuple[str, bytes, str]]
"""Form field → file name, content, media type."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Call:
    method: str
    path: str
    query: Mapping[str, str] | None = None
    headers: Mapping[str, str] | None = None
    body: bytes | None = None
    files: Files | None = None
    repeatable: bool = False
    """Sending it twice does no harm."""
    about: str = ""
    """The ticket, for errors."""


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Caller:
    """Durations are seconds. `reason_of` finds the ticket system's own words in the JSON of a refusal."""

    def __init__(
        self,
        system: ServiceNowSettings | JiraSettings | WebhookSettings,
        timeout: float,
        deadline: float,
        retries: int,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._system = system
        self._timeout = timeout
        self._deadline = deadline
        self._retries = retries
        self._jitter = jitter
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="tickets")
        self.host = urlsplit(system.url).hostname or system.url

    async def send(self, call: Call, reason_of: Callable[[Any], str], within: float | None = None) -> Answer:
        """The answer with a status below 300. Raises as the port says."""
        ends_at = time.monotonic() + min(self._deadline, within or self._deadline)
        for attempt in range(self._retries + 1):
            try:
                answer = await self._attempt(call, ends_at)
                self._judge(call, answer, reason_of)
                return answer
            except TicketUnavailable as error:
                pause = error.details.get("retry_after_seconds")
                if pause is None:
                    pause = FIRST_PAUSE_SECONDS * 2**attempt * (0.5 + self._jitter() / 2)
                    if not call.repeatable:
                        raise
                if attempt == self._retries or time.monotonic() + pause >= ends_at:
                    raise
            await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    async def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def secret(self) -> str:
        """The credential, read anew. Raises TicketCredentialsRefused."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._credential)

    def _credential(self) -> str:
        path: Path = self._system.credential_file
        try:
            secret = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise self._refused_credentials(f"the credential for {self.host} cannot be read: {why}") from None
        if not secret or not secret.isprintable():
            raise self._refused_credentials(f"the file of the credential for {self.host} does not hold one")
        return secret

    def unavailable(self, what: str, **details: Any) -> TicketUnavailable:
        return TicketUnavailable(f"{self.host} {what}", url=self._system.url, **details)

    async def _attempt(self, call: Call, ends_at: float) -> Answer:
        left = ends_at - time.monotonic()
        seconds = min(self._timeout, left)
        if seconds <= 0:
            raise self.unavailable("did not answer in time")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                return await loop.run_in_executor(self._pool, partial(self._request, call, seconds))
        except TimeoutError:
            raise self.unavailable(f"did not answer within {seconds:.1f} s") from None
        except RuntimeError as error:  # the pool is shut down
            raise self.unavailable(f"is not asked any more: {error}") from None

    def _request(self, call: Call, seconds: float) -> Answer:
        """Blocks, in a thread."""
        ends_at = time.monotonic() + seconds
        system = self._system
        with requests.Session() as session:
            # Proxies, .netrc and certificate bundles of the environment are not what was configured.
            session.trust_env = False
            session.verify = str(system.ca) if system.ca else True
            if system.proxy:
                session.proxies = {"http": system.proxy, "https": system.proxy}
            try:
                response = session.request(
                    call.method,
                    system.url + call.path,
                    params=call.query,
                    headers={"Accept": "application/json", **(call.headers or {})},
                    data=call.body,
                    files=call.files,
                    auth=self._authentication(),
                    timeout=seconds,
                    allow_redirects=False,
                    stream=True,
                )
                with response:
                    body = self._body(response, ends_at)
                    return Answer(response.status_code, response.headers, body)
            except (requests.RequestException, OSError) as error:
                raise self.unavailable(f"does not answer: {_cause(error)}") from None

    def _body(self, response: requests.Response, ends_at: float) -> bytes:
        body = b""
        for chunk in response.iter_content(CHUNK_BYTES):
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise self.unavailable(f"answered with more than {MAX_ANSWER_BYTES} bytes")
            if time.monotonic() > ends_at:
                raise self.unavailable("did not finish its answer in time")
        return body

    def _authentication(self) -> AuthBase | None:
        system = self._system
        if isinstance(system, WebhookSettings):
            return None
        secret = self._credential()
        return HTTPBasicAuth(system.username.encode(), secret.encode()) if system.username else _Bearer(secret)

    def _judge(self, call: Call, answer: Answer, reason_of: Callable[[Any], str]) -> None:
        status = answer.status
        if status < 300:
            return
        said = _said(answer.body, reason_of)
        if status == 401:
            raise self._refused_credentials(f"{self.host} does not accept the credential{said}")
        if status == 403:
            raise TicketRefused(f"{self.host} forbids it to the mesh's account{said}", ticket=call.about)
        if status == 404:
            raise self.not_found(call.about, said)
        if status == 429 or status >= 500:
            after = _retry_after(answer.headers.get("Retry-After", ""), time.time())
            may_repeat = status in (429, 503) and after is not None
            details = {"retry_after_seconds": after} if may_repeat else {}
            raise self.unavailable(f"answers {status}{said}", **details)
        if status < 400:
            raise self.unavailable(f"answers {status}, a redirect, which is not followed")
        raise TicketRefused(f"{self.host} refuses with {status}{said}", ticket=call.about)

    def not_found(self, ticket: str, said: str = "") -> TicketNotFound:
        return TicketNotFound(f"{self.host} has no change ticket {ticket!r}{said}", ticket=ticket, system=self.host)

    def _refused_credentials(self, message: str) -> TicketCredentialsRefused:
        return TicketCredentialsRefused(message, credential_file=str(self._system.credential_file))


def _said(body: bytes, reason_of: Callable[[Any], str]) -> str:
    try:
        reason = reason_of(json.loads(body))
    except (ValueError, TypeError, KeyError, AttributeError):
        return ""
    reason = " ".join(str(reason).split())[:LONGEST_REASON]
    return f": {reason}" if reason else ""


def _retry_after(text: str, now: float) -> float | None:
    """Seconds; the header has either seconds or a date."""
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (TypeError, ValueError):
        return None


def _cause(error: BaseException) -> str:
    """The innermost cause: what surrounds it names pools and retries that nobody asked about."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__


def json_of(caller: Caller, answer: Answer) -> Any:
    """Raises TicketUnavailable for a page that is no JSON: a login form, an instance that is asleep."""
    try:
        return json.loads(answer.body)
    except ValueError:
        raise caller.unavailable(f"answered {answer.status} with something that is no JSON") from None


@contextmanager
def published_form(caller: Caller) -> Iterator[None]:
    """Inside, a document that has not the form that was published raises TicketUnavailable."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"answered with a document of another form ({type(error).__name__}: {error})"
        raise caller.unavailable(what[:LONGEST_REASON]) from error

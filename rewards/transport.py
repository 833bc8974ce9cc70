"""How a reward speaks to an endpoint on the network: deadlines, retries, circuit breaker, bounded replies.

Called by the rewards `http` and `judge`. An endpoint's failure is never an exception for them: they get None, which
becomes a missing score, and it is counted. Follows no redirect, shows no token, and never parses what it has not
bounded. Several threads may ask at once.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.cookiejar import DefaultCookiePolicy
from typing import NoReturn, TypeVar

import requests
from pybreaker import STATE_CLOSED, CircuitBreaker, CircuitBreakerError
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_exponential
from urllib3.exceptions import HTTPError

from burnish.data.errors import ConfigError, InfrastructureError, Problem
from burnish.rewards.endpoint import EndpointOptions
from burnish.rewards.replies import MalformedReply, Unanswered, accept

T = TypeVar("T")
U = TypeVar("U")

MALFORMED_RETRIES = 1
"""How often a request is repeated because its reply could not be read."""

_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "burnish"}
_COUNTS = ("requests", "retries", "failures", "malformed", "breaker_open")


class Counters:
    """Sums that several threads add to."""

    def __init__(self, names: Iterable[str]) -> None:
        self._lock, self._sums = threading.Lock(), dict.fromkeys(names, 0.0)

    def add(self, **numbers: float) -> None:
        """Add to the sums of these names."""
        with self._lock:
            for name, number in numbers.items():
                self._sums[name] += number

    def take(self) -> dict[str, float]:
        """The sums since the last call; all names, also those that are 0."""
        with self._lock:
            taken, self._sums = self._sums, dict.fromkeys(self._sums, 0.0)
        return taken


class Transport:
    """One endpoint. Opens its connections with the first request; the token is read from the environment each time.

    Args:
        options: where and how.
        url: the address to post to; it is on the same host as the options'.
        counts: further names for `counters`.
    """

    def __init__(self, options: EndpointOptions, *, url: str, counts: Iterable[str] = ()) -> None:
        self.options, self.url = options, url
        self.counters = Counters((*_COUNTS, *counts))
        self._lock = threading.Lock()
        self._session: requests.Session | None = None
        self._breaker = CircuitBreaker(
            fail_max=options.breaker_failures,
            reset_timeout=options.breaker_reset,
            exclude=[MalformedReply],
            throw_new_error_on_trip=False,
        )

    def each(self, work: Callable[[T], U], items: Iterable[T]) -> list[U]:
        """`work` of every item, at most `max_in_flight` at once, results in the items' order."""
        with ThreadPoolExecutor(self.options.max_in_flight) as pool:
            return list(pool.map(work, items))

    def ask(self, body: bytes, *, kind: str, parse: Callable[[bytes], T], rows: int = 1) -> T | None:
        """Post and parse the reply; None where that failed for good.

        Args:
            body: what is posted.
            kind: its content type.
            parse: reads a reply; raises MalformedReply, upon which the request is repeated once.
            rows: how many rows of a batch hang on it, for the counters.

        Raises:
            ConfigError: the token's variable is not set.
        """
        for _ in range(1 + MALFORMED_RETRIES):
            try:
                return parse(self._guarded(lambda: self._retried(body, kind)))
            except CircuitBreakerError:
                self.counters.add(breaker_open=rows)
                return None
            except Unanswered:
                self.counters.add(failures=1)
                return None
            except MalformedReply:
                self.counters.add(malformed=1)
        return None

    def probe(self, body: bytes, *, kind: str) -> None:
        """Ask once, past the breaker. An endpoint that is there and busy (429, 5xx) passes.

        Raises:
            InfrastructureError: no answer. ConfigError: an answer that will not change: 401, 404, a redirect ...
        """
        where = self.url.partition("?")[0]
        try:
            self._post(body, kind, ends=time.monotonic() + self.options.ready_seconds)
        except MalformedReply:
            return
        except Unanswered as error:
            if error.status == 0:
                raise InfrastructureError(f"the endpoint at {where} cannot be reached: {error}") from None
            if not error.passing:
                said = f"; it says: {error.said}" if error.said else ""
                raise ConfigError(f"the endpoint at {where} refuses: {error}{said}") from None

    def _guarded(self, send: Callable[[], bytes]) -> bytes:
        """`send()` under the breaker, which holds its lock during a call.

        While it is closed, requests run beside each other and only their outcome is reported through it. Otherwise
        they queue: one is tried, and what it finds decides about the rest.
        """
        if self._breaker.current_state != STATE_CLOSED:
            return self._breaker.call(send)
        try:
            reply = send()
        except Unanswered as error:
            with suppress(Unanswered, CircuitBreakerError):
                self._breaker.call(_raise, error)
            raise
        with suppress(CircuitBreakerError):
            self._breaker.call(bool)
        return reply

    def _retried(self, body: bytes, kind: str) -> bytes:
        options, ends = self.options, time.monotonic() + self.options.deadline
        retrying = Retrying(
            stop=stop_after_attempt(options.attempts) | stop_before_delay(options.deadline),
            wait=lambda state: max(wait_exponential(multiplier=options.backoff)(state), _asked(state)),
            retry=retry_if_exception(lambda error: isinstance(error, Unanswered) and error.passing),
            before_sleep=lambda state: self.counters.add(retries=1),
            reraise=True,
        )
        return retrying(self._post, body, kind, ends=ends)

    def _post(self, body: bytes, kind: str, *, ends: float) -> bytes:
        now = time.monotonic()
        seconds = max(min(self.options.timeout, ends - now), 1e-3)
        token = self._token()
        headers = {"Content-Type": kind, **_HEADERS}
        self.counters.add(requests=1)
        try:
            with self._connections().post(
                self.url,
                data=body,
                headers=headers,
                auth=_Bearer(token),
                timeout=seconds,
                stream=True,
                allow_redirects=False,
            ) as response:
                return accept(response, token=token, limit=self.options.max_reply_bytes, until=now + seconds)
        except requests.Timeout:
            raise Unanswered(f"no answer within {seconds:.3g} s") from None
        except (requests.RequestException, HTTPError, OSError) as error:  # its text may hold headers
            raise Unanswered(f"no connection ({type(error).__name__})") from None

    def _token(self) -> str:
        name = self.options.token_env
        token = os.environ.get(name, "").strip() if name else ""
        if name and not re.fullmatch("[!-~]+", token):
            problem = Problem("token_env", f"{name}, not set or not plain text", "a variable of the reward's process")
            raise ConfigError("the endpoint's token is missing", [problem])
        return token

    def _connections(self) -> requests.Session:
        with self._lock:
            if self._session is None:
                self._session = requests.Session()
                self._session.trust_env = self.options.trust_env
                self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
                adapter = HTTPAdapter(pool_maxsize=self.options.max_in_flight)
                self._session.mount("https://", adapter)
                self._session.mount("http://", adapter)
            return self._session


class _Bearer(AuthBase):
    """Sets the header itself: requests would otherwise look for a login in ~/.netrc."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _raise(error: Unanswered) -> NoReturn:
    raise error


def _asked(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return error.retry_after if isinstance(error, Unanswered) else 0.0

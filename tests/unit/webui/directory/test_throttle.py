"""Guessing passwords gets slow, and nobody is locked out for long. The clock is the test's."""

from __future__ import annotations

from webui.directory.throttle import LOGIN_PACE, SOURCE_PACE, Backoff, Throttle, TryCounter


def guesses_within(seconds: int, login: str = "lqchen") -> int:
    throttle, now, made = Throttle(), 0.0, 0
    while now < seconds:
        wait = throttle.attempt(login, "203.0.113.9", now)
        made += wait == 0
        now += wait or 0.001
    return made


def test_a_few_typing_mistakes_cost_nothing() -> None:
    throttle = Throttle()
    assert [throttle.attempt("lqchen", "a", 0.0) for _ in range(LOGIN_PACE.free)] == [0] * 4
    assert throttle.attempt("lqchen", "a", 0.0) == 1


def test_an_hour_of_guessing_one_login_is_worth_little() -> None:
    assert guesses_within(3600) < 80


def test_one_source_guessing_many_logins_is_slowed_down_too() -> None:
    throttle = Throttle()
    made = sum(throttle.attempt(f"user{n}", "203.0.113.9", 0.0) == 0 for n in range(1000))
    assert made == SOURCE_PACE.free


def test_other_spellings_are_the_same_login() -> None:
    throttle = Throttle()
    for spelling in ("lqchen", "LQChen", " lqchen ", "lqCHEN"):
        assert throttle.attempt(spelling, spelling, 0.0) == 0
    for spelling in ("Lqchen", "lqch\u00e9n", "\uff2c\uff31chen", "LQCHE\u0301N"):
        assert throttle.attempt(spelling, "somewhere else", 0.0) > 0


def test_with_a_domain_it_is_the_same_login() -> None:
    throttle = Throttle()
    for spelling in ("lqchen", "MYLAB\\lqchen", "lqchen@mylab.com", "OTHER\\LQChen"):
        assert throttle.attempt(spelling, spelling, 0.0) == 0
    assert throttle.attempt("lqchen@elsewhere.com", "somewhere else", 0.0) > 0


def test_all_logins_of_a_person_count_together() -> None:
    """The person john.smith is found by the principal name jsmith@mylab.com, too."""
    throttle = Throttle()
    for typed in ("john.smith", "jsmith@mylab.com") * 2:
        assert throttle.attempt(typed, typed, 0.0) == 0
        assert throttle.found("John.Smith", 0.0) == 0
    for typed in ("john.smith", "jsmith@mylab.com"):
        assert throttle.attempt(typed, "a", 0.0) == 0, "else it tells that there is such a person"
        assert throttle.found("john.smith", 0.0) > 0
    throttle.succeeded("jsmith@mylab.com", "a", "John.Smith")
    assert throttle.found("john.smith", 0.0) == 0


def test_who_waits_as_long_as_was_said_waits_no_longer_as_the_person_found() -> None:
    throttle, now = Throttle(), 0.0
    for _ in range(10):
        now += throttle.attempt("lqchen", "a", now)
        assert throttle.attempt("lqchen", "a", now) == 0
        assert throttle.found("LQChen", now) == 0


def test_of_two_tries_at_once_the_earlier_may_come_later() -> None:
    throttle = Throttle()
    assert [throttle.attempt("lqchen", "a", now) for now in (1.0, 1.5)] == [0, 0]
    assert [throttle.found("lqchen", now) for now in (1.5, 1.0)] == [0, 0]


def test_the_right_password_of_one_forgives_no_guesses_at_another() -> None:
    throttle = Throttle()
    for n in range(LOGIN_PACE.free - 1):
        assert throttle.attempt("jsmith", f"bot {n}", 0.0) == 0
    assert throttle.attempt("jsmith@mylab.com", "a", 0.0) == 0
    throttle.succeeded("jsmith@mylab.com", "a", "john.smith")
    assert throttle.attempt("jsmith", "bot", 0.0) == 0
    assert throttle.attempt("jsmith", "bot again", 0.0) > 0


def test_the_right_password_forgives_the_login_but_not_the_source() -> None:
    throttle = Throttle()
    for n in range(SOURCE_PACE.free - 1):
        assert throttle.attempt(f"victim{n}", "203.0.113.9", 0.0) == 0
    assert throttle.attempt("mallory", "203.0.113.9", 0.0) == 0
    throttle.succeeded("mallory", "203.0.113.9", "mallory")
    assert throttle.attempt("victim-a", "203.0.113.9", 0.0) == 0
    assert throttle.attempt("victim-b", "203.0.113.9", 0.0) > 0


def test_a_directory_that_is_down_costs_nobody_a_try() -> None:
    throttle = Throttle()
    for _ in range(100):
        assert throttle.attempt("lqchen", "a", 0.0) == 0
        throttle.no_guess("lqchen", "a")


def test_nobody_waits_longer_than_a_minute_because_of_others() -> None:
    throttle, now = Throttle(), 0.0
    for attempt in range(1000):
        now += throttle.attempt("lqchen", f"bot {attempt}", now)
    assert throttle.attempt("lqchen", "at home", now) <= LOGIN_PACE.longest


def test_tries_are_forgotten_after_a_while() -> None:
    throttle = Throttle(forget_after=900)
    for _ in range(6):
        throttle.attempt("lqchen", "a", 0.0)
    assert throttle.attempt("lqchen", "a", 901.0) == 0
    assert throttle.attempt("lqchen", "a", 901.0) == 0


def test_memory_is_bounded_and_the_least_recent_goes_first() -> None:
    ledger = TryCounter(Backoff(free=1, longest=60), forget_after=900, most=100)
    for n in range(10_000):
        ledger.count(f"login {n}", float(n))
    assert len(ledger) == 100
    assert ledger.wait("login 9999", 9999.0) > 0
    assert ledger.wait("login 0", 9999.0) == 0

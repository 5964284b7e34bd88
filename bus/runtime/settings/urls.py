"""The rules for the URLs of servers, and certificates in them. No I/O.

A URL is checked before a library reads it. The libraries raise errors of any type, some with a
part of the password in their text, and they ignore options that they do not know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit

_QUOTE = (
    "in a user name or password, write characters such as / @ : ; # ? as %2F %40 %3A %3B %23 %3F"
)
_NO_CHOICE = "; certificates are always verified, and TLS_CA_FILE names your own authorities"
# https://www.mongodb.com/docs/manual/reference/connection-string-options/, except those that
# turn the verification of certificates off.
_MONGO_WORDS = frozenset(
    {
        *("replicaSet", "directConnection", "loadBalanced", "srvServiceName", "srvMaxHosts"),
        *("authSource", "authMechanism", "authMechanismProperties", "appName"),
        *("tls", "ssl", "tlsCAFile", "tlsCertificateKeyFile", "tlsCertificateKeyFilePassword"),
        *("connectTimeoutMS", "socketTimeoutMS", "serverSelectionTimeoutMS", "timeoutMS"),
        *("heartbeatFrequencyMS", "localThresholdMS", "waitQueueTimeoutMS", "serverMonitoringMode"),
        *("maxPoolSize", "minPoolSize", "maxIdleTimeMS", "maxConnecting"),
        *("compressors", "zlibCompressionLevel", "retryReads", "retryWrites", "uuidRepresentation"),
        *("readConcernLevel", "readPreference", "readPreferenceTags", "maxStalenessSeconds"),
        *("w", "wtimeoutMS", "journal"),
    }
)


@dataclass(frozen=True, slots=True)
class UrlRules:
    """``words`` are the options that the query may hold, by scheme. With ``several``, the setting
    may hold more than one URL, separated by ``;``. ``hint`` says what to do where it may not."""

    words: Mapping[str, frozenset[str]]
    several: bool = False
    needs_host: bool = False
    hint: str = ""

    @property
    def schemes(self) -> tuple[str, ...]:
        return tuple(self.words)


_REDIS_WORDS = frozenset({"db"})
_CA_WORDS = {
    "amqps": "cacertfile",
    "https": "cacertfile",
    "rediss": "ssl_ca_certs",
    "mongodb": "tlsCAFile",
    "mongodb+srv": "tlsCAFile",
    "mysql": "ssl-ca",
}
"""By scheme, the option that names the file of authorities."""

RULES = {
    "BROKER_URL": UrlRules(
        {
            "amqp": frozenset(),
            "amqps": frozenset({"cacertfile"}),
            "redis": frozenset(),
            "rediss": frozenset({"ssl_ca_certs"}),
        },
        several=True,
    ),
    "BROKER_API_URL": UrlRules(
        {"http": frozenset(), "https": frozenset({"cacertfile"})}, several=True, needs_host=True
    ),
    "REDIS_URL": UrlRules(
        {
            "redis": _REDIS_WORDS,
            "rediss": _REDIS_WORDS | {"ssl_ca_certs"},
            "unix": _REDIS_WORDS,
        },
        hint="put a proxy that follows the primary in front of several servers",
    ),
    "MONGO_URL": UrlRules(
        {"mongodb": _MONGO_WORDS, "mongodb+srv": _MONGO_WORDS},
        needs_host=True,
        hint="separate the members of a replica set by commas",
    ),
    "DATABASE_URL": UrlRules(
        {
            "sqlite": frozenset(),
            "mysql": frozenset({"unix_socket", "ssl_mode", "ssl-ca"}),
        },
        hint="put a proxy in front of several servers",
    ),
    "EMAIL_URL": UrlRules({"smtp": frozenset({"starttls"}), "smtps": frozenset()}, needs_host=True),
}
"""By setting."""


class UrlError(ValueError):
    """What is wrong with a URL; the text contains no secret of it."""


def check_url(value: str, rules: UrlRules) -> None:
    """Raises UrlError unless all libraries read ``value`` alike and use all of it."""
    parts = value.split(";")
    if len(parts) > 1 and not rules.several:
        hint = f"; {rules.hint}" if rules.hint else ""
        raise UrlError(f"holds a ';', and one URL alone is accepted{hint}; {_QUOTE}")
    schemes = {_check_one(part, rules) for part in parts}
    if len(schemes) > 1:
        raise UrlError(f"mixes {' and '.join(sorted(schemes))}; accepted is one scheme for all")


def with_authorities(value: str, ca_file: str | None) -> str:
    """``value`` with ``ca_file`` in the query of each URL that asks for TLS and names none."""
    return ";".join(_with_authorities(part, ca_file) for part in value.split(";"))


def authorities_of(url: str) -> str | None:
    """The file of authorities that the query of one URL names."""
    parts = urlsplit(url)
    return dict(parse_qsl(parts.query)).get(_CA_WORDS.get(parts.scheme, ""))


def uses_tls(parts: SplitResult) -> bool:
    """Whether connections to the URL use TLS."""
    query = {name.lower(): value.lower() for name, value in parse_qsl(parts.query)}
    if parts.scheme.startswith("mongodb"):
        by_default = "true" if parts.scheme == "mongodb+srv" else "false"
        return query.get("tls", query.get("ssl", by_default)) == "true"
    if parts.scheme == "mysql":
        return "ssl_mode" in query or "ssl-ca" in query
    return parts.scheme in _CA_WORDS


def _check_one(url: str, rules: UrlRules) -> str:
    """The scheme of ``url``. Raises UrlError."""
    scheme = url.partition("://")[0]
    if not url.startswith(tuple(f"{each}://" for each in rules.schemes)):
        accepted = ", ".join(f"{each}://" for each in rules.schemes)
        raise UrlError(f"does not start with one of {accepted}")
    if scheme == "sqlite":
        _check_query(url.partition("?")[2], scheme, rules)
        return scheme
    parts = _split(url, rules)
    _check_query(parts.query, scheme, rules)
    if scheme in ("redis", "rediss") and not re.fullmatch(r"/?[0-9]*", parts.path):
        raise UrlError("names no database of Redis; accepted is its number")
    if scheme == "mysql" and not re.fullmatch(r"/[^/]+", parts.path):
        raise UrlError("names no database; accepted is mysql://USER:PASSWORD@HOST/DATABASE")
    return scheme


def _split(url: str, rules: UrlRules) -> SplitResult:
    try:
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2].split(",")
        is_readable = all(_is_readable(host) for host in hosts) and not re.search(r"[\s\0]", url)
    except ValueError:
        is_readable = False
    # An unquoted character ends the password early; its rest, with the @, is in another part.
    if not is_readable or "@" in f"{parts.path}{parts.query}" or "#" in url:
        raise UrlError(f"names no host and port that can be read; {_QUOTE}")
    if len(hosts) > 1 and not parts.scheme.startswith("mongodb"):
        hint = f"; {rules.hint}" if rules.hint else ", or several URLs separated by ';'"
        raise UrlError(f"names several hosts; accepted is one{hint}")
    if rules.needs_host and not all(urlsplit(f"//{host}").hostname for host in hosts):
        raise UrlError(f"names no host and port that can be read; {_QUOTE}")
    return parts


def _is_readable(host: str) -> bool:
    """Raises ValueError for a port that is not a number."""
    return urlsplit(f"//{host}").port != 0


def _check_query(query: str, scheme: str, rules: UrlRules) -> None:
    known = rules.words[scheme]
    found = parse_qsl(query, keep_blank_values=True)
    # The names of MongoDB's options are not case-sensitive.
    folded = {word.lower() if scheme.startswith("mongodb") else word for word in known}
    for word, value in found:
        if (word.lower() if scheme.startswith("mongodb") else word) not in folded:
            raise UrlError(_unknown(word, known))
        _check_value(word, value)


def _unknown(word: str, known: frozenset[str]) -> str:
    accepted = f"accepted are {', '.join(sorted(known))}" if known else "none is accepted"
    # Anything but a name may be the rest of a password with an unquoted '?'.
    name = repr(word) if re.fullmatch(r"[A-Za-z][\w.-]{0,39}", word) else "without a name"
    is_of_tls = word.lower().startswith(("ssl", "tls", "verify"))
    ending = _NO_CHOICE if is_of_tls else ""
    return f"has an option {name}, which is not known; {accepted}{ending}"


def _check_value(word: str, value: str) -> None:
    if word == "db" and not re.fullmatch("[0-9]+", value):
        raise UrlError("names no database of Redis; accepted is its number")
    if word == "starttls" and value not in ("0", "1"):
        raise UrlError(f"has starttls={value[:40]!r}; accepted are 0 and 1")
    if word == "ssl_mode" and value != "VERIFY_IDENTITY":
        raise UrlError(f"has ssl_mode={value[:40]!r}; accepted is VERIFY_IDENTITY{_NO_CHOICE}")
    # pymongo only warns of another value, and connects without TLS.
    if word.lower() in ("tls", "ssl") and value.lower() not in ("true", "false"):
        raise UrlError(f"has {word}={value[:40]!r}; accepted are true and false")


def _with_authorities(url: str, ca_file: str | None) -> str:
    parts = urlsplit(url)
    if not ca_file or not uses_tls(parts) or authorities_of(url):
        return url
    word = f"{_CA_WORDS[parts.scheme]}={quote(ca_file, safe='')}"
    query = f"{parts.query}&{word}" if parts.query else word
    return parts._replace(path=parts.path or "/", query=query).geturl()

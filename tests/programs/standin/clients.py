"""Asks the stand-in for the game by clients that nobody here wrote; prints a JSON document.

clients.py info|players|rules PORT
clients.py rconx|valve PORT PASSWORD COMMAND...    what each command answers; or {"refused": why}
"""

import json
import sys

TIMEOUT = 20


def plain(value):
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape").encode("utf-8", "backslashreplace").decode()
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {plain(key): plain(each) for key, each in value.items()}
    return vars(value) if hasattr(value, "__dict__") else value


def query(kind, port):
    import a2s

    return getattr(a2s, kind)(("127.0.0.1", port), timeout=TIMEOUT, encoding="utf-8")


def rconx(port, password, commands):
    from rconx import RconAuthenticationError, RconClient

    try:
        with RconClient.create("127.0.0.1", port, preset="srcds") as client:
            client.connect_and_authenticate(password, timeout=TIMEOUT)
            return [client.execute(command, timeout=TIMEOUT).content for command in commands]
    except RconAuthenticationError:
        return {"refused": "wrong password"}


def valve(port, password, commands):
    from valve.rcon import RCON, RCONAuthenticationError

    client = RCON(("127.0.0.1", port), password, timeout=TIMEOUT)
    try:
        with client:
            return [client.execute(command).body for command in commands]
    except RCONAuthenticationError as error:
        return {"refused": "banned" if error.banned else "wrong password"}


def main(kind, port, *rest):
    if kind in ("info", "players", "rules"):
        answer = query(kind, int(port))
    else:
        answer = {"rconx": rconx, "valve": valve}[kind](int(port), rest[0], rest[1:])
    print(json.dumps(plain(answer)))


main(*sys.argv[1:])

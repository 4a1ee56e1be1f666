"""profanity, a terminal client, as two people use it: two instances in tmux, driven by keys, judged by their screens.

Usage: profanity.py --starttls P --tls P --ca FILE --user A --peer B --password W

Prints one line for each check, as slix.py does.
"""

import contextlib
import re
import time

import terminal
from terminal import DOMAIN, LOOK_S, WAIT_S


class Screen(terminal.Screen):
    """One profanity."""

    def __init__(self, tmux, folder, args, name, user):
        super().__init__(tmux, args, name, user)
        self.home = folder / user
        self.home.mkdir(exist_ok=True)
        self.start({"HOME": self.home, "XDG_CONFIG_HOME": self.home / "config", "XDG_DATA_HOME": self.home / "data",
                    "LANG": "C.UTF-8", "TERM": "screen", "SSL_CERT_FILE": args.ca}, ["profanity"])
        self.see("Type /help for help")
        for line in ("/tls certpath clear", "/presence console all", "/time all off",
                     "/wrap off", "/roster hide"):
            self.say(line)

    def login(self, transport):
        """`transport` is STARTTLS or direct TLS; the certificate is verified in both."""
        port, policy = (self.args.starttls, "force") if transport == "STARTTLS" else (self.args.tls, "legacy")
        self.say("/clear")
        self.say(f"/connect {self.jid} server 127.0.0.1 port {port} tls {policy}")
        self.see("Enter password:")
        self.say(self.args.password)
        self.see(rf"{re.escape(self.jid)}\S* logged in successfully")
        self.see(r"\[TLS\] \[online\]")

    def quit(self):
        self.say("/quit")
        deadline = time.monotonic() + WAIT_S
        while self.tmux("has-session", "-t", self.name).returncode == 0 and time.monotonic() < deadline:
            time.sleep(LOOK_S)


def play(check, tmux, folder, args):
    paris = Screen(tmux, folder, args, "one", args.user)
    other = Screen(tmux, folder, args, "two", args.peer)
    with check("login over STARTTLS, the certificate verified"):
        paris.login("STARTTLS")
    with check("login over direct TLS, the certificate verified"):
        other.login("direct TLS")
    with check("add each other"):
        for one, two in ((paris, other), (other, paris)):
            one.say(f"/sub request {two.jid}")
            two.see(f"authorization request from {one.jid}")
            two.say(f"/sub allow {one.jid}")
        for one, two in ((paris, other), (other, paris)):
            one.say("/win 1")
            one.say("/clear")
            one.say("/roster")
            one.see(rf"{two.jid} - both")
    with check("presence of the contact is seen"):
        other.say("/win 1")
        paris.say("/status set away \"gone fencing\"")
        other.see(rf"{paris.jid}.* is away.*gone fencing")
        paris.say("/status set online \"back again\"")
        other.see(rf"{paris.jid}.* is online.*back again")
    with check("chat both ways"):
        for at in range(3):
            paris.say(f"/msg {other.jid} hark {at} ♥")
        other.say("/win 2")
        other.see("hark 0 ♥[\\s\\S]*hark 1 ♥[\\s\\S]*hark 2 ♥")
        other.say("who goes there?")
        paris.see("who goes there\\?")
    with check("a room: made, entered by the other, lines both ways"):
        room = f"cell@conference.{DOMAIN}"
        paris.say(f"/join {room} nick {args.user}")
        paris.see("Room locked")
        paris.say("/room accept")
        paris.see("Room unlocked")
        other.say(f"/join {room} nick {args.peer}")
        paris.see(rf"Participants[\s\S]*{args.peer}[\s\S]*Visitors")
        paris.say("here stands the bell ♥")
        other.see("here stands the bell ♥")
        other.say("and here the book")
        paris.see("and here the book")
        other.say("/close")
        paris.see(rf"Participants(?![\s\S]*{args.peer}[\s\S]*Visitors)")
        paris.say("/close")
    with check("a message to someone offline arrives after login, over the other transport"):
        paris.say("/win 1")
        other.quit()
        paris.see(rf"-- {other.jid} .* is offline")
        paris.say(f"/msg {other.jid} while you slept")
        paris.see("me: while you slept")
        other = Screen(tmux, folder, args, "two", args.peer)
        other.login("STARTTLS")
        other.see(rf"chat message: {paris.jid}")
        other.say("/win 2")
        other.see("while you slept")
    with check("wrong password refused"):
        other.quit()
        other = Screen(tmux, folder, args, "two", args.peer)
        other.say(f"/connect {other.jid} server 127.0.0.1 port {args.starttls} tls force")
        other.see("Enter password:")
        other.say(args.password + "x")
        other.see("Login failed")
    for screen in (paris, other):
        with contextlib.suppress(AssertionError):
            screen.quit()


if __name__ == "__main__":
    terminal.main(play)
